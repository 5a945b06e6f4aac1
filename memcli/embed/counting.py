"""Counting tokens without a model: by a tokenizer.json that the user names, else by that of the default model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

from memcli.embed.models import TOKENIZER_FILE, default_model
from memcli.errors import UsageError
from memcli.text import clean


@cache
def token_counter(path: Path | None) -> Callable[[str], int]:
    """A function from a text to its number of tokens; `path` None is the tokenizer of the default embedding model.

    Raises:
        UsageError: the file is no tokenizer of the Hugging Face format.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path or default_model().folder / TOKENIZER_FILE))
    except Exception as error:  # what the library raises has no narrower type
        raise UsageError(f"cannot read the tokenizer {path}: {error}", "name a tokenizer.json") from error
    # A model's own limits say nothing of how long a prompt is.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(clean(text), add_special_tokens=False).ids)
