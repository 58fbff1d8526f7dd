"""Overrides of a config from the command line: ``--cfg-options key=value ...``.

What a value means depends on what the config has there. Where it has a text, such as a path, the
value is that text, with all its blanks, commas and digits: ``data_root=2024`` is a folder.
Elsewhere values are numbers, ``True``, ``None``, or lists as OpenMMLab writes them: ``key=a,b`` or
``key="[(1,2),3]"``. Quotes within the value make any of them a text: ``key="'2024'"``.
"""

import argparse
import ast
import difflib
from collections.abc import Sequence

from mmengine.config import Config

from adpe_mm.errors import UserError

# The last part of a key that holds a text, even where a config has nothing or None there.
TEXTS = {
    'ann_file', 'checkpoint', 'classwise_file', 'data_root', 'file', 'filename', 'img', 'img_path',
    'load_from', 'name', 'out_dir', 'outfile_prefix', 'prefix', 'save_dir', 'seg_map_path', 'split',
    'subset', 'type', 'work_dir',
}  # fmt: skip
BRACKETS = {'(': ')', '[': ']'}


class Option(str):
    """The text behind the ``=`` of an override that nobody has given a meaning yet."""


class ConfigOptions(argparse.Action):
    """Collects ``key=value`` as a dict of `Option`; takes several, and may be repeated."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        options = dict(getattr(namespace, self.dest) or {})
        for text in values:
            key, equals, value = text.partition('=')
            if not equals or not key.strip():
                parser.error(
                    f"{option_string} takes key=value, and '{text}' has no '=': quote what has "
                    "blanks, as in data_root='my photos'"
                )
            options[key.strip()] = Option(value)
        setattr(namespace, self.dest, options)


def merge_options(cfg: Config, options: dict) -> None:
    """Write overrides into a config.

    Args:
        cfg: The config.
        options: Values by dotted key. An `Option` is understood by what the config has at its key;
            all else is taken as it is.

    Raises:
        ValueError: If brackets do not match, or the config has something else at a key.
    """
    for key, value in options.items():
        _check_name(cfg, key)
        if isinstance(value, Option):
            value = understand(value, key, _present(cfg, key))
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise UserError(
                f"--cfg-options {key}=...: the config has no place for it, as one part of '{key}' "
                'is a value, a list without that number, or no number in a list: correct it'
            ) from error


def _check_name(cfg: Config, key: str) -> None:
    """Refuse what looks like a slip of the pen: a new name would be ignored without a word."""
    first = key.split('.')[0]
    similar = difflib.get_close_matches(first, list(cfg), n=1, cutoff=0.86)
    if first not in cfg and similar:
        raise UserError(
            f"--cfg-options {key}=...: the config has no '{first}', but '{similar[0]}': correct it"
        )


def understand(text: str, key: str = '', present=None):
    """What the text of an override means.

    Args:
        text: Behind the ``=``.
        key: Dotted.
        present: What the config has there now.

    Raises:
        ValueError: If brackets do not match.
    """
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in '\'"':
        return text[1:-1]
    is_text = isinstance(present, str) or (present is None and key.split('.')[-1] in TEXTS)
    is_list = text[:1] in BRACKETS and text.endswith(BRACKETS[text[0]])
    if is_text and not is_list:
        return None if text == 'None' else text
    if is_list:
        parts = [understand(part) for part in _split(text[1:-1], key)]
        return tuple(parts) if text[0] == '(' else parts
    if ',' in text:
        return [understand(part) for part in _split(text, key)]
    return _scalar(text)


def _scalar(text: str):
    if text.lower() in ('true', 'false'):
        return text.lower() == 'true'
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    try:
        return ast.literal_eval(text)  # None, {}, {'a': 1}
    except (ValueError, SyntaxError):
        return text


def _split(text: str, key: str) -> list[str]:
    """Parts between the commas that are in no brackets and no quotes."""
    parts, closing, quote = [''], [], ''
    for char in text:
        if quote or char in '\'"':
            quote = '' if char == quote else quote or char
        elif char in BRACKETS:
            closing.append(BRACKETS[char])
        elif char in BRACKETS.values():
            if not closing or closing.pop() != char:
                raise UserError(f"the brackets of '{key}={text}' do not match")
        elif char == ',' and not closing:
            parts.append('')
            continue
        parts[-1] += char
    if closing:
        raise UserError(f"the brackets of '{key}={text}' do not match")
    return [part for part in map(str.strip, parts) if part]


def _present(cfg: Config, key: str):
    """What a config has at a dotted key; None if nothing."""
    value = cfg
    for part in key.split('.'):
        if isinstance(value, list | tuple) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif hasattr(value, 'get'):
            value = value.get(part)
        else:
            return None
    return value
