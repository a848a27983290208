"""Fixtures that several test files share, and what runs in one process."""

from collections.abc import Iterator
import ctypes
import gc
import importlib.metadata
import logging
import os
import pathlib
import signal
import tempfile

import pytest

# A test runs a program once or twice, so that compiling is what takes time:
# most of it without LLVM's optimisations, without XLA's fusion emitters and in
# one piece. Later versions may not know the latter (and not start with them).
_FLAGS = [
  '--xla_backend_optimization_level=0',
  '--xla_llvm_disable_expensive_passes=true',
]
if importlib.metadata.version('jaxlib').startswith('0.10.'):
  _FLAGS.append('--xla_cpu_use_fusion_emitters=false')
  _FLAGS.append('--xla_cpu_parallel_codegen_split_count=1')
os.environ['XLA_FLAGS'] = ' '.join([os.environ.get('XLA_FLAGS', ''), *_FLAGS])

# The tests of a process, and the commands that they start, share what they have
# compiled. Other processes do not: JAX may read what another one still writes,
# and warns of it where tests read every line.
_COMPILED = tempfile.TemporaryDirectory(prefix='giajax-compiled-')
os.environ['JAX_COMPILATION_CACHE_DIR'] = _COMPILED.name
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'

# Tracing makes millions of small objects and hardly any garbage: by default
# a tenth of the suite's time is spent looking for it.
gc.set_threshold(1_000_000)


# What starts the tests may ignore signals, and their processes would as well.
for _number in (signal.SIGINT, signal.SIGHUP):
  if signal.getsignal(_number) is signal.SIG_IGN:
    signal.signal(_number, lambda *_: None)


# The bytes of a process above which its compiled programs are forgotten: two of
# them share the memory of a small machine.
_MOST_MEMORY = 5e9


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
  """Takes away the handlers that a command has given to the package's log."""
  log = logging.getLogger('giajax')
  before = [*log.handlers], log.level, log.propagate
  yield
  log.handlers, log.level, log.propagate = before


@pytest.fixture(scope='module', autouse=True)
def bounded_memory() -> Iterator[None]:
  """Forgets compiled programs after a file if they take too much memory."""
  yield
  status = pathlib.Path('/proc/self/statm')
  if not status.is_file():
    return  # not on Linux
  pages = int(status.read_text(encoding='utf-8').split()[1])
  if pages * os.sysconf('SC_PAGE_SIZE') > _MOST_MEMORY:
    import jax

    jax.clear_caches()
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, 'malloc_trim'):
      libc.malloc_trim(0)  # glibc keeps what is freed


@pytest.fixture(scope='session')
def shared_data() -> pathlib.Path:
  """Returns the folder of real data and weights beside the repository."""
  root = pathlib.Path(__file__).resolve().parents[1]
  path = root.parent / 'shared' / 'data'
  if not path.is_dir():
    pytest.skip(f'needs real data and weights, which are not at {path}')
  return path


# What takes a minute or so is begun first: at the end it would run alone.
_LONG = (
  'launch/accelerator/main_test.py',
  'engine/kill_test.py',
  'engine/run_test.py',
  'engine/together_test.py',
  'launch/benchmark_test.py',
  'launch/slurm_test.py',
)


def pytest_configure(config: pytest.Config) -> None:
  """Has pytest-xdist keep the order, not begin with the most tests."""
  config.option.loadscopereorder = False


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
  config: pytest.Config, items: list[pytest.Item]
) -> Iterator[None]:
  """Keeps tests that share a compiled program in one process.

  All tests of a row share its evaluation (in `models` across files), those of
  a file its fixtures.
  """
  root = pathlib.Path(__file__).parents[1]
  long = [root / 'tests' / name for name in _LONG]
  items.sort(key=lambda item: item.path not in long)
  for item in items:
    path = item.path.relative_to(root)
    parameters = getattr(getattr(item, 'callspec', None), 'params', {})
    row = parameters.get('case', parameters.get('name'))
    shared = path.parent if path.parent.name == 'models' and row else path
    group = f'{shared}:{row}' if isinstance(row, str) else str(shared)
    item.add_marker(pytest.mark.xdist_group(group))
  yield
  grouped = config.getoption('loadgroup', False)
  if grouped and not all('@' in item.nodeid for item in items):
    raise pytest.UsageError(
      'Expected pytest-xdist to group tests; got a pytest that hides the '
      'groups, as 9.2.0 does from xdist 3.8.0; install pytest<9.2'
    )
