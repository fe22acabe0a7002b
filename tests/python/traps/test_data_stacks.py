"""The cache of data-stack chunks: it spares green threads their mmap, and it is bounded."""

import sys

import isolated
import pytest
from programs.own_process import in_own_process

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no data stack")


@in_own_process(hubs=isolated.OURS)
def test_a_spawn_does_not_fault_in_a_data_stack_of_its_own():
    import resource

    import eventlet

    def faults():
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    def run(count):
        for _ in range(count):
            eventlet.spawn(lambda: None).wait()

    run(100)
    before = faults()
    run(2_000)
    # Without the cache there is one fault for every spawn.
    assert faults() - before < 500


@in_own_process(hubs=isolated.OURS)
def test_a_burst_of_green_threads_leaves_a_bounded_cache():
    import eventlet
    from uringhub import _native

    def run():
        eventlet.sleep(0.01)

    for _ in range(3):
        threads = [eventlet.spawn(run) for _ in range(6_000)]
        for thread in threads:
            thread.wait()
        del threads, thread
        kept, most = _native.kept_data_stacks()
        # A slab of 64 that is still in use may have free chunks besides.
        assert 4_000 < kept <= most + 63
