"""The stage. A Llama trains every weight in our own loop; LoRA, and models that the decoder cannot hold, with TRL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle.costs import CostMeter
from lifecycle.registry import DataRef, ModelRegistry, ModelVersion, fingerprint
from lifecycle.sft.config import SFTConfig
from lifecycle.training.processes import processes

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from lifecycle.training.loop import StepRecord

NAME, ADAPTER = "sft", "adapter"
PARENTS = ("pretrain", "import", "sft")
LAST_STEPS = 10
"""Steps whose mean is what is reported of the end: a single batch is noisy."""


def run(
    config: SFTConfig,
    registry: ModelRegistry,
    *,
    parent: ModelVersion,
    conversations: Dataset,
    data: DataRef,
    preset: str | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
) -> ModelVersion:
    """Fine-tune `parent` on conversations (columns "messages" and "tools") and publish "sft/N".

    With method "adapter" it is "adapter/N": what PEFT saves, to be put on top of `parent`. A run that is registered already
    is returned at once; an interrupted one goes on from its last checkpoint. on_step is called after every optimizer step
    of our own loop.
    Raises LifecycleError for a parent of the wrong stage, for data without an assistant's turn and for a loss that is
    not finite; KeyboardInterrupt after Ctrl-C, with a checkpoint kept.
    """
    from lifecycle import versions

    versions.require_stage(parent, NAME, PARENTS)
    work = fingerprint(NAME, config, [parent], data)
    name = ADAPTER if config.method == "adapter" else NAME
    if (published := registry.find(name, work)) is not None:
        return published

    workspace = registry.workspace(NAME, work, [parent])
    meter = CostMeter()
    trained = train(config, parent, conversations, workspace, on_step)

    def publish() -> ModelVersion:
        version = registry.publish(
            name,
            lambda directory: versions.write(directory, trained.model, trained.tokenizer, parent, trained.history),
            parents=[parent],
            config=config,
            preset=preset,
            data=data,
            metrics=trained.metrics,
            seed=config.seed,
            fingerprint=work,
            seconds=trained.cost["wall_seconds"],
            cost=meter.read(earlier=trained.cost),
            card=f"{parent.ref} after supervised fine-tuning ({config.method}) on {len(conversations):,} conversations. It chats.",
        )
        registry.discard_workspace(NAME, work)
        return version

    return processes().in_turn(lambda: registry.find(name, work) or publish())


@dataclass(frozen=True)
class Trained:
    """What a run leaves to publish."""

    model: Any
    """transformers' model, with adapters where they are published alone."""
    tokenizer: Any
    history: list[dict[str, Any]]
    metrics: dict[str, float | int | None]
    cost: dict[str, float]
    """What the run has counted itself, over all interruptions."""


def train(
    config: SFTConfig,
    parent: ModelVersion,
    conversations: Dataset,
    workspace: Path,
    on_step: Callable[[StepRecord], None] | None = None,
) -> Trained:
    """Fine-tune in our own loop where the decoder can hold the model and every weight is trained, else with TRL."""
    from lifecycle import versions
    from lifecycle.model.checkpoint import written_out

    if config.method == "full":
        model, tokenizer = versions.load(parent)
        if (decoder := written_out(model)) is not None:
            return _train_decoder(config, model, decoder, tokenizer, conversations, workspace, on_step)
    return _train_with_trl(config, parent, conversations, workspace)


def _train_decoder(config, model, decoder, tokenizer, conversations, workspace, on_step) -> Trained:
    from lifecycle.sft.data import tokenize
    from lifecycle.sft.decoder import prepare

    progress, history = prepare(config, decoder, tokenize(conversations, tokenizer)).run(workspace, on_step)
    end = history[-LAST_STEPS:]
    metrics = {
        "token_accuracy": sum(entry["mean_token_accuracy"] for entry in end) / len(end),
        "train_loss": sum(entry["loss"] for entry in end) / len(end),
        "steps": progress.step,
        "tokens": progress.tokens,
    }
    return Trained(model, tokenizer, history, metrics, progress.cost())


def _train_with_trl(config: SFTConfig, parent: ModelVersion, conversations: Dataset, workspace: Path) -> Trained:
    from lifecycle import trainers

    meter = trainers.meter(workspace)
    trainer = make_trainer(config, parent, conversations, workspace)
    history = trainers.train(trainer, meter)
    metrics = {
        "token_accuracy": trainers.last(history, "mean_token_accuracy"),
        "train_loss": trainers.last(history, "loss"),
        "steps": trainer.state.global_step,
    }
    model = trainer.model.merge_and_unload() if config.method == "lora" else trainer.model
    tokens = round(config.epochs * sum(map(len, trainer.train_dataset["input_ids"])))
    cost = {"tokens": tokens, "wall_seconds": meter.seconds, "cpu_seconds": meter.cpu_seconds}
    return Trained(model, trainer.processing_class, history, metrics, cost)


def make_trainer(config: SFTConfig, parent: ModelVersion, conversations: Dataset, workspace):
    """A ready trainer of TRL: packing, assistant-only loss, Muon beside AdamW or LoRA adapters."""
    from peft import LoraConfig
    from trl import SFTConfig as TRLConfig

    from lifecycle import trainers, versions
    from lifecycle.model.optimizer import MuonAdamW
    from lifecycle.sft.data import PackedRows, tokenize
    from lifecycle.sft.loss import AnswerLossTrainer

    model, tokenizer = versions.load(parent)
    arguments = TRLConfig(
        **trainers.arguments(workspace, config.seed, config.dtype, config.save_every),
        # Not assistant_only_loss: TRL takes the mask from the column "assistant_masks" when rows are tokenised already.
        packing=True,
        max_length=config.max_length,
        per_device_train_batch_size=trainers.share(config.batch_rows, "batch_rows"),
        num_train_epochs=config.epochs,
        learning_rate=config.lr,
        lr_scheduler_type="linear",
        warmup_steps=config.warmup,
        max_grad_norm=1.0,
    )
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        trainable_token_indices=_rows_of_control_tokens(model, tokenizer) if config.method == "lora" else None,
    )
    optimizer = MuonAdamW(model, lr=config.lr, matrix_lr=config.matrix_lr) if config.method == "full" else None
    trainer = AnswerLossTrainer(
        model,
        args=arguments,
        train_dataset=tokenize(conversations, tokenizer),
        processing_class=tokenizer,
        optimizers=(optimizer, None),
        peft_config=None if config.method == "full" else lora,
    )
    trainer.data_collator = PackedRows(tokenizer.pad_token_id)  # TRL's argument refuses one for packed rows
    return trainer


def _rows_of_control_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]] | None:
    """Tokens by the name of each layer with a row for them: no text of pretraining has a control token, so adapters around its
    row would have nothing to start from. None for a tokenizer without any."""
    layers, tokens = (model.get_input_embeddings(), model.get_output_embeddings()), sorted(tokenizer.get_added_vocab().values())
    return {name: tokens for name, layer in model.named_modules() if tokens and layer in layers} or None
