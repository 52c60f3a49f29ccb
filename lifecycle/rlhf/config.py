"""What reinforcement learning from human feedback can be told."""

from __future__ import annotations

from dataclasses import dataclass

from lifecycle.config import check_above_zero, check_not_negative, check_seed
from lifecycle.errors import LifecycleError
from lifecycle.rlhf.rollouts import CHOICES


@dataclass(frozen=True)
class RLHFConfig:
    """One reward model, one round of DPO and one of GRPO; a step count of 0 leaves DPO or GRPO out."""

    seed: int = 0
    """Decides the order of the data and the sampled answers."""
    dtype: str = "auto"
    """Arithmetic: "fp32", "bf16" (autocast), or "auto": bf16 where this machine is faster in it."""
    save_every: int = 50
    """Steps between two checkpoints to resume from."""
    pair_answers: int = 6
    """Answers sampled per prompt, to make preference pairs of."""
    pairs_per_prompt: int = 2
    """Most pairs made of the answers to one prompt."""
    reward_steps: int = 110
    """Optimizer steps of the reward model."""
    reward_batch: int = 32
    """Preference pairs per step of the reward model."""
    reward_lr: float = 1e-3
    """Its peak learning rate."""
    dpo_steps: int = 90
    """Optimizer steps of DPO."""
    dpo_batch: int = 32
    """Preference pairs per step of DPO."""
    dpo_lr: float = 2.5e-4
    """Its peak learning rate."""
    dpo_beta: float = 0.3
    """How strongly DPO is held to the model that it starts from."""
    dpo_sft_weight: float = 1.0
    """Weight of the loss of plain imitation beside DPO's own: without it both answers of a pair get unlikelier."""
    algorithm: str = "grpo"
    """How samples teach: "grpo" judges an answer against its group's mean and spread, "rloo" against the mean of the others.
    What is called grpo_... below holds for both."""
    grpo_steps: int = 45
    """Optimizer steps of GRPO."""
    grpo_prompts: int = 16
    """Prompts per step."""
    grpo_group: int = 8
    """Answers sampled per prompt; each is judged against the mean of its group."""
    grpo_lr: float = 4e-4
    """Its peak learning rate."""
    grpo_beta: float = 0.02
    """Weight of the KL divergence from the model that GRPO starts from."""
    grpo_temperature: float = 0.7
    """Temperature of the samples: lower finds more right answers, higher more different ones."""
    grpo_tokens: int = 112
    """Longest answer."""
    rehearsal_batch: int = 8
    """Conversations of supervised fine-tuning that GRPO learns on in every step, so that what no reward asks for is kept."""
    rehearsal_weight: float = 0.0
    """Weight of their loss beside GRPO's own; 0 leaves them out."""
    kl_limit: float = 0.0
    """Nats per token from the starting model that are too far: the reward is being hacked. 0: no limit."""
    length_limit: float = 0.0
    """Mean tokens of an answer that are too many. 0: no limit."""
    on_runaway: str = "stop"
    """Beyond a limit for three steps: "stop" ends the run with the last good weights, "warn" only says so."""
    rollouts: str = "auto"
    """Who samples them: "engine", the one that serves; "generate", transformers; "auto": the first where it is installed."""
    reward_model_weight: float = 0.05
    """Weight of the reward model's score beside the verifier's 0 or 1."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_above_zero(self, "pairs_per_prompt", "reward_steps", "reward_batch", "reward_lr", "dpo_batch", "dpo_lr", "grpo_lr",
                         "grpo_prompts", "grpo_temperature", "grpo_tokens", "rehearsal_batch", "save_every")  # fmt: skip
        for name, known in (("dtype", ("auto", "fp32", "bf16")), ("rollouts", CHOICES), ("algorithm", ("grpo", "rloo")), ("on_runaway", ("stop", "warn"))):
            if (chosen := getattr(self, name)) not in known:
                raise LifecycleError(f'unknown {name} "{chosen}": choose one of {", ".join(known)}')
        for name, off in (("kl_limit", "is no limit"), ("length_limit", "is no limit"), ("rehearsal_weight", "leaves it out")):
            check_not_negative(self, name, off)
        if self.kl_limit and not self.grpo_beta:
            raise LifecycleError("kl_limit needs the divergence, which is not computed with grpo_beta=0: --set grpo_beta=0.001 or more")
        for name in ("dpo_steps", "grpo_steps"):
            check_not_negative(self, name, "leaves it out")
        for name in ("pair_answers", "grpo_group"):
            if getattr(self, name) < 2:
                raise LifecycleError(f"{name} must be at least 2, not {getattr(self, name)}: answers to one prompt are compared")


PRESETS = {
    "tiny": RLHFConfig(),
    "laptop": RLHFConfig(dpo_steps=120, grpo_steps=110, reward_lr=5e-4, dpo_lr=2e-4, rehearsal_weight=0.1),
    "gpu": RLHFConfig(reward_steps=500, reward_batch=32, dpo_steps=500, grpo_steps=500, reward_lr=1e-5, dpo_lr=1e-6, grpo_lr=1e-6),
    "cluster": RLHFConfig(
        reward_steps=500, reward_batch=64, dpo_steps=500, dpo_batch=64, grpo_steps=500, grpo_prompts=64, reward_lr=1e-5, dpo_lr=5e-7, grpo_lr=5e-7
    ),
}
