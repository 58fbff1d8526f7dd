"""Trainings that are killed or stopped at all moments, and compared with one that was not.

campaign = Campaign(root, task, processes, out, seed, print)
result = campaign.run(kills=50, stops=20)
"""

from .campaign import TASKS, Campaign
from .moments import Fault
from .tries import Result, table

__all__ = ['TASKS', 'Campaign', 'Fault', 'Result', 'table']
