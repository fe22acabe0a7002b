"""`call_soon_threadsafe` while another thread waits in a bare `_run_once`, as monitors call it."""

import isolated
import pytest


@pytest.mark.parametrize("driver", ["uring", "epoll"])
def test_a_callback_from_another_thread_is_not_lost(driver):
    program = """
        import threading

        import uringhub

        # io_uring_enter, epoll_wait, epoll_pwait, epoll_pwait2 on x86-64 and aarch64
        WAITS = {"426", "232", "281", "441", "22"}
        loop = uringhub.new_event_loop()
        called = threading.Event()
        loop.call_later(30, lambda: None)

        def turn():
            while not called.is_set():
                loop._run_once()

        thread = threading.Thread(target=turn, daemon=True)
        thread.start()
        while open(f"/proc/self/task/{thread.native_id}/syscall").read().split()[0] not in WAITS:
            pass
        loop.call_soon_threadsafe(called.set)
        assert called.wait(10), "the callback was lost"
        thread.join(10)
        assert not thread.is_alive()
        loop.close()
        """
    isolated.run(program, env={"URINGHUB_DRIVER": driver})
