"""What networks are trained to do."""

from giajax.tasks import classification

TASKS = {'classification': classification.classification}
