"""Texts as DiffuSeq's decoding program writes them."""


def strip_marks(text: str, hypothesis: bool) -> str:
    """Remove [CLS] and [SEP], and [PAD] from a hypothesis, wherever they stand; [UNK] and [MASK] are words.

    The text is stripped first, so blanks beside a removed mark stay and words that only a mark parted are joined.

    Args:
        text: one decoded line.
        hypothesis: whether the model wrote it (sources and references have no padding to remove).
    """
    text = text.strip()
    for mark in ("[CLS]", "[SEP]", *(["[PAD]"] if hypothesis else [])):
        text = text.replace(mark, "")
    return text
