"""Train the demo family from scratch: `python -m kis_core.demo.train [NAME ...] [--seed S] [--steps N] [--out DIR]`.

All members see the same facts, tokenizer, number of steps and schedule; only the width (and with it, by one rule,
the learning rate) or the architecture differs. Muon moves the hidden matrices, AdamW the rest. The loss of every token
that is not part of a fact's object counts `OTHER_TOKENS_WEIGHT`, so that the model spends its capacity on the facts.
"""

from __future__ import annotations

import argparse
import logging
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from kis_core.demo import factbase, text
from kis_core.demo.family import CONTEXT, FAMILY, LAYERS, VOCABULARY, Member, member

log = logging.getLogger("kis_core.demo.train")

STEPS = 2000
ROWS_PER_STEP = 32
CONSTANT_SHARE = 0.3  # of the steps at the peak learning rate; then linear to zero
OTHER_TOKENS_WEIGHT = 0.1
WEIGHT_DECAY = 0.05
MUON_LEARNING_RATE_SCALE = 10.0  # Muon's orthogonal updates want a larger step than AdamW's
END = "<|endoftext|>"
SHARD_SIZE = "10MB"  # keeps every tracked file small

Sentence = tuple[list[int], list[float]]  # tokens and the weight of each in the loss


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on the built-in corpus."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.documents(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END, model_max_length=CONTEXT
    )


def build_model(chosen: Member) -> PreTrainedModel:
    """A fresh model with random weights."""
    end = 0  # END is the tokenizer's first token
    if chosen.architecture == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=VOCABULARY,
                n_positions=CONTEXT,
                n_embd=chosen.width,
                n_layer=LAYERS,
                n_head=chosen.heads,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                resid_pdrop=0.0,
                bos_token_id=end,
                eos_token_id=end,
            )
        )
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            max_position_embeddings=CONTEXT,
            hidden_size=chosen.width,
            intermediate_size=chosen.mlp_width,
            num_hidden_layers=LAYERS,
            num_attention_heads=chosen.heads,
            num_key_value_heads=chosen.heads,
            tie_word_embeddings=True,
            bos_token_id=end,
            eos_token_id=end,
        )
    )


def training_sentences(tokenizer: PreTrainedTokenizerFast) -> list[Sentence]:
    """Every trained sentence as tokens with their loss weights: 1 on the object's tokens, less elsewhere."""
    sentences = [(fact, sentence) for fact in factbase.load() for sentence in fact.sentences()]
    encoded = tokenizer([s for _, s in sentences], return_offsets_mapping=True)
    result = []
    for (fact, sentence), ids, offsets in zip(sentences, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        begin = len(sentence) - len(fact.object) - 1
        result.append((ids, [1.0 if end > begin else OTHER_TOKENS_WEIGHT for _, end in offsets]))
    return result


def batches(sentences: list[Sentence], end: int, rng: random.Random) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of token rows (rows, CONTEXT) with loss weights, whole sentences packed in random order."""
    rows: list[Sentence] = []
    while True:
        row: Sentence = ([], [])
        for index in rng.sample(range(len(sentences)), len(sentences)):
            tokens, weights = sentences[index]
            if len(row[0]) + len(tokens) > CONTEXT:
                rows.append(row)
                row = ([], [])
                if len(rows) == ROWS_PER_STEP:
                    yield _stack(rows, end)
                    rows = []
            row = (row[0] + tokens, row[1] + weights)


def _stack(rows: list[Sentence], end: int) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.full((len(rows), CONTEXT), end)
    weights = torch.zeros(len(rows), CONTEXT)
    for index, (ids, loss_weights) in enumerate(rows):
        tokens[index, : len(ids)] = torch.tensor(ids)
        weights[index, : len(ids)] = torch.tensor(loss_weights)
    return tokens, weights


def _optimizers(model: PreTrainedModel, learning_rate: float) -> list[torch.optim.Optimizer]:
    hidden: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        matrix = parameter.ndim == 2 and not any(word in name for word in ("wte", "wpe", "embed"))
        (hidden if matrix else rest).append(parameter)
    return [
        torch.optim.Muon(hidden, lr=MUON_LEARNING_RATE_SCALE * learning_rate, weight_decay=WEIGHT_DECAY),
        torch.optim.AdamW(rest, lr=learning_rate, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.95)),
    ]


def train(chosen: Member, tokenizer: PreTrainedTokenizerFast, *, steps: int, seed: int) -> PreTrainedModel:
    """Train one member and return it in float32, evaluation mode."""
    torch.manual_seed(seed)
    model = build_model(chosen)
    optimizers = _optimizers(model, chosen.learning_rate)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min(1.0, (steps - step) / (steps * (1 - CONSTANT_SHARE)), (step + 1) / 20)
        )
        for optimizer in optimizers
    ]
    stream = batches(training_sentences(tokenizer), tokenizer.eos_token_id, random.Random(seed))
    began = time.monotonic()
    model.train()
    for step in range(steps):
        tokens, weights = next(stream)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(tokens).logits[:, :-1]
        losses = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
        )
        counted = weights[:, 1:].flatten()
        loss = (losses * counted).sum() / counted.sum()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        if step % 200 == 0 or step == steps - 1:
            on_objects = losses[counted == 1].mean().item()
            log.info(
                "%s step %d/%d object loss %.4f, %.0f s", chosen.name, step, steps, on_objects, time.monotonic() - began
            )
    return model.eval()


def main() -> None:
    """Train the members named on the command line, or all, and save them in fp16 safetensors."""
    parser = argparse.ArgumentParser(description="Train the demo family from scratch.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(m.name for m in FAMILY)}; default all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS, help="the same for every member")
    parser.add_argument("--threads", type=int, default=0, help="torch threads (0: torch's own choice)")
    parser.add_argument("--out", type=Path, help="folder to write to instead of the embedded models")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    tokenizer = build_tokenizer()
    for chosen in [member(name) for name in args.names] or FAMILY:
        model = train(chosen, tokenizer, steps=args.steps, seed=args.seed)
        folder = args.out / chosen.name if args.out else chosen.folder
        model.half().save_pretrained(folder, max_shard_size=SHARD_SIZE)
        tokenizer.save_pretrained(folder)
        log.info("%s saved", chosen.name)


if __name__ == "__main__":
    main()
