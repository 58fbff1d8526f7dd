"""Trainings that are killed or stopped at all moments, and compared with one that was not.

campaign = Campaign(task, processes, out, seed)
result = campaign.run(kills=50, stops=20)
"""

from .campaign import TASKS, Campaign, Result, table
from .moments import Fault

__all__ = ['TASKS', 'Campaign', 'Fault', 'Result', 'table']
