"""What a user can cause and mend, told apart from all that should keep its traceback.

A command shows an error of these classes as its one sentence, which says what, where, and what to
change: see `launch.one_sentence_errors`. Each is also the built-in error that a caller in Python
would expect. What libraries raise for a user's mistake is raised anew at the place that knows the
file or the setting: ``raise UserError(...) from error``.
"""


class UserError(ValueError):
    """A setting, a file or data that this package cannot work with."""


class MissingFile(UserError, FileNotFoundError):
    """A file or folder that is not there."""


class FileInTheWay(UserError, FileExistsError):
    """A file or folder that is there, and would be overwritten."""


class MachineError(UserError, RuntimeError):
    """What this machine, its libraries or its devices cannot do."""
