"""The demo text encoder: a small UMT5 with ComfyUI's parameter names, and its vocabulary."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from training.prompts import all_prompts

D_MODEL, LAYERS, HEADS, HEAD_DIM, D_FF = 256, 2, 4, 64, 512
BUCKETS = 32
EOS = 1
Params = dict[str, Tensor]


@lru_cache(maxsize=1)
def vocabulary() -> bytes:
    """The vocabulary of the demo world's prompts."""
    return train_vocabulary([prompt.text for prompt in all_prompts()])


def train_vocabulary(texts: Sequence[str]) -> bytes:
    """Train the sentencepiece unigram model on the texts of a grammar; a second or two."""
    import sentencepiece

    # Every letter on its own, so that a word outside the grammar is spelled and not lost.
    letters = " ".join("abcdefghijklmnopqrstuvwxyz")
    # Unigram training never proposes a whole rare word as a piece, so the grammar's are given.
    words = sorted({word for text in texts for word in text.replace(",", "").split()})
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*texts, letters, letters]),
        model_writer=model,
        model_type="unigram",
        vocab_size=128,
        hard_vocab_limit=False,
        user_defined_symbols=["\u2581" + word for word in words],
        pad_id=0,
        eos_id=EOS,
        unk_id=2,
        bos_id=-1,
        character_coverage=1.0,
        num_threads=1,
        shuffle_input_sentence=False,
        minloglevel=2,
    )
    return model.getvalue()


class Tokenizer:
    def __init__(self, model: bytes) -> None:
        import sentencepiece

        self.model = sentencepiece.SentencePieceProcessor(model_proto=model, add_eos=True)

    @property
    def size(self) -> int:
        return int(self.model.get_piece_size())

    def __call__(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Ids padded with 0 ``(B, L)`` and lengths ``(B,)``; an empty text is one end token."""
        ids = [self.model.encode(text) for text in texts]
        lengths = torch.tensor([len(row) for row in ids])
        padded = torch.zeros(len(ids), int(lengths.max()), dtype=torch.long)
        for row, values in zip(padded, ids, strict=True):
            row[: len(values)] = torch.tensor(values)
        return padded, lengths


def init_params(size: int, generator: torch.Generator) -> Params:
    """Fresh parameters; heads of the first layer start out looking at one neighbouring word."""

    def matrix(rows: int, columns: int, gain: float = 1.0) -> Tensor:
        return torch.randn(rows, columns, generator=generator) * gain * columns**-0.5

    inner = HEADS * HEAD_DIM
    params: Params = {"shared.weight": torch.randn(size, D_MODEL, generator=generator)}
    for i in range(LAYERS):
        attn, feed = f"encoder.block.{i}.layer.0.", f"encoder.block.{i}.layer.1."
        for name in "qkv":
            # T5 does not scale its logits, so small queries and keys keep the softmax soft.
            gain = 1.0 if name == "v" else HEAD_DIM**-0.25 * 0.5
            params[f"{attn}SelfAttention.{name}.weight"] = matrix(inner, D_MODEL, gain)
        params[f"{attn}SelfAttention.o.weight"] = matrix(D_MODEL, inner, 0.5)
        offsets = torch.zeros(BUCKETS, HEADS)
        # Buckets: 16 + n is n words ahead, n is n words back. Heads: +1, +2, -1, -2.
        # Those of later layers look at all words, as news from afar would else hardly get through.
        for head, bucket in enumerate((17, 18, 1, 2) if i == 0 else ()):
            offsets[bucket, head] = 4.0
        params[f"{attn}SelfAttention.relative_attention_bias.weight"] = offsets
        params[f"{attn}layer_norm.weight"] = torch.ones(D_MODEL)
        params[f"{feed}DenseReluDense.wi_0.weight"] = matrix(D_FF, D_MODEL)
        params[f"{feed}DenseReluDense.wi_1.weight"] = matrix(D_FF, D_MODEL)
        params[f"{feed}DenseReluDense.wo.weight"] = matrix(D_MODEL, D_FF, 0.5)
        params[f"{feed}layer_norm.weight"] = torch.ones(D_MODEL)
    params["encoder.final_layer_norm.weight"] = torch.ones(D_MODEL)
    return params


def bucket_of(offset: Tensor) -> Tensor:
    """T5's bucket of a relative position (key minus query), 32 buckets up to distance 128."""
    distance = offset.abs()
    far = 8 + (torch.log(distance.clamp(min=1).float() / 8) / torch.log(torch.tensor(16.0)) * 8)
    near = torch.where(distance < 8, distance, far.long().clamp(max=15))
    return near + 16 * (offset > 0).long()


def norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], weight, 1e-6)


def encode(p: Params, ids: Tensor, lengths: Tensor) -> Tensor:
    """Encode ``(B, L)`` ids to ``(B, L, 256)``, zero where padded as the host does it."""
    count = ids.shape[1]
    place = torch.arange(count, device=ids.device)
    real = place < lengths[:, None]
    buckets = bucket_of(place[None, :] - place[:, None])
    x = p["shared.weight"][ids]
    for i in range(LAYERS):
        attn, feed = f"encoder.block.{i}.layer.0.", f"encoder.block.{i}.layer.1."
        h = norm(x, p[f"{attn}layer_norm.weight"])
        q, k, v = (
            (h @ p[f"{attn}SelfAttention.{n}.weight"].T).unflatten(-1, (HEADS, HEAD_DIM))
            for n in "qkv"
        )
        bias = p[f"{attn}SelfAttention.relative_attention_bias.weight"][buckets].permute(2, 0, 1)
        scores = q.transpose(1, 2) @ k.permute(0, 2, 3, 1) + bias
        scores = scores.masked_fill(~real[:, None, None], float("-inf"))
        mixed = (scores.softmax(-1) @ v.transpose(1, 2)).transpose(1, 2).flatten(2)
        x = x + mixed @ p[f"{attn}SelfAttention.o.weight"].T
        h = norm(x, p[f"{feed}layer_norm.weight"])
        gate = F.gelu(h @ p[f"{feed}DenseReluDense.wi_0.weight"].T, approximate="tanh")
        h = gate * (h @ p[f"{feed}DenseReluDense.wi_1.weight"].T)
        x = x + h @ p[f"{feed}DenseReluDense.wo.weight"].T
    return norm(x, p["encoder.final_layer_norm.weight"]) * real[..., None]
