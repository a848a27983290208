"""Where the updates that are attacked come from."""

from giajax.engine.sources import captured
from giajax.engine.sources import simulated

SOURCES = {
  'captured': captured.captured,
  'simulated': simulated.simulated,
}
