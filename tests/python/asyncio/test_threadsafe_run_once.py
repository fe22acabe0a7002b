"""`call_soon_threadsafe` while another thread waits in a bare `_run_once`, as monitors call it."""

import isolated
import pytest


@pytest.mark.parametrize("driver", ["uring", "epoll"])
def test_a_callback_from_another_thread_is_not_lost(driver):
    program = """
        import threading
        import time

        import uringhub

        loop = uringhub.new_event_loop()
        called = threading.Event()
        tick = loop.call_later(30, lambda: None)

        def turn():
            while not called.is_set():
                loop._run_once()

        thread = threading.Thread(target=turn, daemon=True)
        thread.start()
        time.sleep(0.2)  # It waits in the kernel by now; if not, the test only shows less.
        loop.call_soon_threadsafe(called.set)
        assert called.wait(10), "the callback was lost"
        thread.join(10)
        assert not thread.is_alive()
        loop.close()
        """
    isolated.run(program, env={"URINGHUB_DRIVER": driver})
