"""The kinds of components of this floor, and what each is built with."""

from config.registry import Registry

TASKS = Registry("task", section="dataset.category", context={"recipe": "the whole recipe"})
METRICS = Registry("metric", section="stats.val", context={})
OBSERVERS = Registry(
    "observer",
    section="common.observers",
    context={"folder": "the run folder", "quiet": "print warnings and errors only"},
)
