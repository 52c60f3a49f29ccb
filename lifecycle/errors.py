"""The one exception that the command line turns into a single clear line."""


class LifecycleError(Exception):
    """Bad input or a state that the user can mend.

    The message says what was wrong, what was expected and what to type; the CLI prints it and exits 2.
    """
