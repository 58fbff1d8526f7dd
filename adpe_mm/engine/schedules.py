"""Schedules that follow the length of the training: their times may be fractions of it."""

from adpe_mm.errors import UserError

TIMES = ('begin', 'end')


def in_iterations(schedule: dict, length: int) -> dict:
    """A schedule of a config with fractions of the training turned into iterations.

    A float from 0 to 1 in ``begin``, ``end`` or ``milestones`` is a fraction of the training.
    All other times are left as they are, in mmengine's units; next to a fraction they are
    iterations.

    Args:
        schedule: An entry of ``param_scheduler``.
        length: Of the training, in iterations.

    Returns:
        The schedule as mmengine understands it. A warm-up takes two iterations at least, as a
        `LinearLR` of one never leaves its first value.
    """
    fractions = {key: schedule[key] for key in TIMES if _is_fraction(schedule.get(key))}
    milestones = schedule.get('milestones', ())
    if not fractions and not any(map(_is_fraction, milestones)):
        return schedule
    found = {key: max(2, round(value * length)) if value else 0 for key, value in fractions.items()}
    if 'begin' in found:  # within the training, be it one iteration long
        found['begin'] = min(found['begin'], length - 1)
    if milestones:
        found['milestones'] = [
            round(value * length) if _is_fraction(value) else value for value in milestones
        ]
    rest = {key: value for key, value in schedule.items() if key != 'convert_to_iter_based'}
    return {**rest, **found, 'by_epoch': False}


def _is_fraction(value) -> bool:
    return isinstance(value, float) and 0 <= value <= 1


def check_times(schedule: dict, epochs: int | None, iterations: int) -> str | None:
    """Whether a schedule in mmengine's units fits into the training.

    Args:
        schedule: An entry of ``param_scheduler`` without fractions.
        epochs: Of the training; None if it is counted in iterations.
        iterations: Of the training.

    Returns:
        A warning if it would not have ended when the training does.

    Raises:
        ValueError: If it would never begin.
    """
    by_epoch = schedule.get('by_epoch', True) and epochs is not None
    length, unit = (epochs, 'epochs') if by_epoch else (iterations, 'iterations')
    name, begin, end = schedule['type'], schedule.get('begin', 0), schedule.get('end', 0)
    advice = 'state its begin and end as fractions of the training, such as 0.05'
    if begin >= length:
        raise UserError(
            f'param_scheduler: {name} begins after {begin} {unit}, and the training has {length}: '
            f'{advice}'
        )
    if end > length:
        return (
            f'param_scheduler: {name} ends after {end} {unit}, and the training has {length}: if '
            f'that is not meant, {advice}'
        )
    return None
