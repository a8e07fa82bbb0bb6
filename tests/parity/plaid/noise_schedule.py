"""gamma(t), its slope, and what follows from them, in float64; the normalised table of embeddings."""

from dlkit.schedules.learned_gamma import LearnedGamma
from parity.cases import Case
from parity.every_array import every_array
from parity.plaid_network import at, network


def check(case: Case) -> None:
    denoiser = network(case)
    schedule = denoiser.process.noise_schedule
    assert isinstance(schedule, LearnedGamma)
    assert schedule.held is not None
    with every_array(case) as golden:
        u = golden["t"]
        t = at(denoiser, u)
        stretch = 1.0 - schedule.t_min  # of the original's time
        found = {
            "gamma_unit": schedule.held.rise(u),
            "gamma_unit_prime": schedule.held.slope(u),
            "gamma": schedule.gamma(t),
            "gamma_prime": schedule.d_gamma(t) * stretch,
            "alpha_squared": schedule.alpha(t).square(),
            "sigma_squared": schedule.sigma(t).square(),
            "embedding_normalised": denoiser.space.table,  # type: ignore[attr-defined]
        }
        for name, values in found.items():
            case.close(values, golden[name], name)
        case.close(schedule.inverse(-golden["gamma"]), t, "inverse")
