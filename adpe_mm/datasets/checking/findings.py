"""What a check of data and config found."""

from dataclasses import dataclass, field


@dataclass
class Findings:
    """What a check found, in the order in which it is to be read.

    Args:
        facts: What is there: images, classes, sizes.
        warnings: What trains, but is probably not meant.
        problems: What does not train, or trains something wrong. Each is a sentence that says what,
            in which file or setting, and what to change.
    """

    facts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
