"""Which steps of a discrete process a respacing string keeps."""

from itertools import accumulate, repeat

from dlkit.errors import UserError


def space_timesteps(steps: int, spec: str) -> list[int]:
    """The indices, rising, that ``spec`` keeps of 0 .. ``steps`` - 1 (Nichol & Dhariwal 2021, arXiv 2102.09672).

    "ddimN" keeps 0, g, 2g, ... for the smallest g that leaves N of them: the last one is below ``steps`` - 1.
    "a,b,c" cuts the indices into as many sections as there are numbers, the first ones longer by 1 where the lengths
    cannot be equal, and keeps that many indices of each: its first, its last, and between them multiples of a stride
    that is added up in floating point and rounded half to even, as the original does.

    Raises:
        UserError: no such g exists, a section is shorter than its number, or the string is of neither form.
    """
    if spec.startswith("ddim"):
        return _strided(steps, _number(spec.removeprefix("ddim"), spec))
    counts = [_number(part, spec) for part in spec.split(",")]
    size, longer = divmod(steps, len(counts))
    kept, first = [], 0
    for number, count in enumerate(counts):
        length = size + (number < longer)
        if count > length:
            raise UserError(
                f"grid {spec!r}: section {number + 1} has {length} steps, fewer than {count}; ask for fewer"
            )
        stride = (length - 1) / (count - 1) if count > 1 else 1.0
        kept += [first + round(place) for place in accumulate(repeat(stride, count - 1), initial=0.0)][: max(count, 0)]
        first += length
    return kept


def kept_by(spec: str) -> int:
    """How many indices a respacing string keeps. Raises ``UserError`` if it is none."""
    if spec.startswith("ddim"):
        return _number(spec.removeprefix("ddim"), spec)
    return sum(max(_number(part, spec), 0) for part in spec.split(","))


def _strided(steps: int, count: int) -> list[int]:
    for stride in range(1, steps):
        if len(found := range(0, steps, stride)) == count:
            return list(found)
    raise UserError(f"grid 'ddim{count}': no whole stride leaves {count} of {steps} steps; try another number")


def _number(text: str, spec: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(
            f"grid {spec!r} is neither 'even', nor 'ddimN', nor 'nested', nor numbers such as '4,6,10'"
        ) from None
