"""Train a small GPT-2 on a data folder of texts, to judge generated texts by (metric gen_ppl) where no hub is at hand.

python examples/teachers/judge.py --data DATA --out JUDGE

Each text stands between a begin and an end mark. The model with the lowest perplexity on the validation split is kept,
which the script prints; a perplexity under it says something of texts like these, and is not one under GPT-2 itself.
"""

import argparse
import math
from pathlib import Path

import torch
from torch.nn import functional as F

from dlkit.data.sequences import Rows, batch_indices
from dlkit.data.texts import read_texts
from dlkit.data.tokenizer import Tokenizer, make_tokenizer
from dlkit.files import atomic_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train and valid texts")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokenizer", default="train:wordpiece:4096")
    parser.add_argument("--length", type=int, default=128, help="most tokens of a text")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--every", type=int, default=200, help="steps between two validations")
    args = parser.parse_args()

    train, valid = read_texts(args.data, "train"), read_texts(args.data, "valid", 1000)
    tokenizer = make_tokenizer(args.tokenizer, train)
    rows, held_out = (Rows.padded(texts, tokenizer, args.length) for texts in (train, valid))
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = network(tokenizer, args.length, args.layers, args.hidden).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    best = math.inf
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / args.steps))
        ids = rows.gather(batch_indices(len(rows), args.batch, step, 0)).ids.to(device)
        nats, count = loss(model, ids, tokenizer)
        (nats / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % args.every == 0 or step + 1 == args.steps:
            found = perplexity(model, held_out, tokenizer, device)
            print(f"step {step + 1}: training {math.exp(nats.item() / count):.2f}, validation {found:.2f}", flush=True)
            if found < best:
                best = found
                save(model, tokenizer, args.out)
    print(f"{args.out}: perplexity {best:.2f} on {len(valid)} validation texts")


def network(tokenizer: Tokenizer, length: int, layers: int, hidden: int) -> torch.nn.Module:
    """A GPT-2 with fresh weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    marks = {"bos_token_id": tokenizer.cls_id, "eos_token_id": tokenizer.sep_id, "pad_token_id": tokenizer.pad_id}
    sizes = {"n_positions": length, "n_embd": hidden, "n_layer": layers, "n_head": max(hidden // 64, 1)}
    return GPT2LMHeadModel(GPT2Config(vocab_size=tokenizer.vocab_size, **sizes, **marks))


def loss(model: torch.nn.Module, ids: torch.Tensor, tokenizer: Tokenizer) -> tuple[torch.Tensor, int]:
    """Nats of all tokens but the first of each row and padding, and how many those are."""
    longest = int((ids != tokenizer.pad_id).sum(1).max())
    ids = ids[:, :longest]
    given = ids != tokenizer.pad_id
    logits, target, counted = model(input_ids=ids, attention_mask=given.long()).logits[:, :-1], ids[:, 1:], given[:, 1:]
    return F.cross_entropy(logits[counted], target[counted], reduction="sum"), int(counted.sum())


@torch.no_grad()
def perplexity(model: torch.nn.Module, rows: Rows, tokenizer: Tokenizer, device: str) -> float:
    """exp of nats per token over all rows."""
    model.eval()
    parts = [loss(model, rows.gather(part).ids.to(device), tokenizer) for part in torch.arange(len(rows)).split(64)]
    model.train()
    return math.exp(sum(nats.item() for nats, _ in parts) / sum(count for _, count in parts))


def save(model: torch.nn.Module, tokenizer: Tokenizer, out: Path) -> None:
    """Model and tokenizer as transformers reads them."""
    with atomic_folder(out) as folder:
        model.save_pretrained(folder)  # type: ignore[operator]
        tokenizer.save(folder)


if __name__ == "__main__":
    main()
