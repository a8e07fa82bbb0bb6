"""The original's decoding program from text to text: its run folder, its few-step sampler, its lines of JSON."""

import warnings
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from dlkit.data.pairs import read_split
from dlkit.data.sequences import Rows
from dlkit.diffusion.condition import Condition
from dlkit.errors import Notice
from dlkit.evaluation.decoding import Decoded, marked_pairs, write_decodes
from dlkit.generator import Teacher, load_teacher
from parity.cases import Case


def check(case: Case) -> None:
    golden, model = case.arrays(), run_folder(case)
    cond = condition(case, model, golden)
    sampler = model.choose_sampler({"name": "ddim_legacy", "steps": case.config["step"], "rounding": True}, None)
    with torch.inference_mode():
        x = sampler.sample(model.denoiser, cond, lambda k: golden["x_T"])
    case.close(x, golden["final_state"], "final_state", prefix="final_state_")
    check_text(case, model, x)


def run_folder(case: Case) -> Teacher:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        checkpoint = case.beside(case.config["weights"])
        return load_teacher(checkpoint.folder, heads=checkpoint.config["num_attention_heads"])


def condition(case: Case, model: Teacher, golden: dict[str, Tensor]) -> Condition:
    """Text in: the rows, masks and anchors that the original made of the same file."""
    config = case.config
    assert model.architecture.seq_len == config["seq_len"]
    assert model.architecture.process.schedule.steps == config["diffusion_steps"]  # type: ignore[attr-defined]
    pairs = read_split(case.folder, config["split"])
    rows = Rows.of_pairs(pairs, model.tokenizer, config["seq_len"])
    assert torch.equal(rows.mask.long(), golden["mask"])
    cond = Condition(model.denoiser.space.embed(rows.ids.long()), rows.mask)
    assert torch.equal(cond.anchor, golden["x_source"])
    assert torch.equal(cond.apply(golden["x_T"]), golden["x_T"])
    return cond


def check_text(case: Case, model: Teacher, x: Tensor) -> None:
    """Text out: the original's file, byte for byte, of these states."""
    pairs = read_split(case.folder, case.config["split"])
    mask = Rows.of_pairs(pairs, model.tokenizer, model.architecture.seq_len).mask
    tokens = model.architecture.decoder.decode(x, model.denoiser.space)  # type: ignore[attr-defined]
    recovered = [model.tokenizer.decode_marked(row[free].tolist()) for row, free in zip(tokens, mask, strict=True)]
    given = marked_pairs(pairs, model.tokenizer, model.architecture.seq_len)
    sources, references = ([pair[k] for pair in given] for k in (0, 1))
    with TemporaryDirectory() as folder:
        (file,) = write_decodes(folder, Decoded(sources, references, [[text] for text in recovered]), seeds=[0])
        assert file.read_bytes() == (case.folder / "decoded.json").read_bytes()
