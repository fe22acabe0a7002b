"""PyMySQL on MariaDB and psycopg2 with a green wait callback on PostgreSQL."""

import services
from programs.own_process import in_own_process


@in_own_process(patched=True, needs=[services.MARIADB])
def test_pymysql_runs_queries_side_by_side():
    import time

    import eventlet
    import pymysql

    def query(number):
        connection = pymysql.connect(host="127.0.0.1", port=3306, user="root", database="test")
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT SLEEP(0.2), %s, REPEAT('x', %s)", (number, number * 1000))
                _, echoed, filler = cursor.fetchone()
                assert len(filler) == number * 1000
                return echoed
        finally:
            connection.close()

    began = time.monotonic()
    with eventlet.Timeout(20):
        assert list(eventlet.GreenPool(20).imap(query, range(40))) == list(range(40))
    assert time.monotonic() - began < 6, "40 queries of 0.2 s did not run side by side"


@in_own_process(patched=True, needs=[services.MARIADB])
def test_pymysql_transactions_of_many_green_threads_keep_their_sums():
    import os

    import eventlet
    import pymysql

    table = f"uringhub_sums_{os.getpid()}"

    def connect():
        return pymysql.connect(host="127.0.0.1", port=3306, user="root", database="test", autocommit=False)

    setup = connect()
    with setup.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {table} (id INT PRIMARY KEY, total INT) ENGINE=InnoDB")
        cursor.executemany(f"INSERT INTO {table} VALUES (%s, 0)", [(n,) for n in range(5)])
    setup.commit()

    def add(number):
        connection = connect()
        with connection.cursor() as cursor:
            for _ in range(5):
                cursor.execute(f"UPDATE {table} SET total = total + 1 WHERE id = %s", (number % 5,))
                connection.commit()
        connection.close()

    try:
        with eventlet.Timeout(25):
            for _ in eventlet.GreenPool(20).imap(add, range(40)):
                pass
        with setup.cursor() as cursor:
            cursor.execute(f"SELECT id, total FROM {table} ORDER BY id")
            assert cursor.fetchall() == tuple((n, 40) for n in range(5))
    finally:
        with setup.cursor() as cursor:
            cursor.execute(f"DROP TABLE {table}")


@in_own_process(patched=True, needs=[services.MARIADB])
def test_pymysql_query_killed_by_a_timeout_leaves_other_connections_alone():
    import eventlet
    import pymysql

    def connect():
        return pymysql.connect(host="127.0.0.1", port=3306, user="root", database="test")

    slow, other = connect(), connect()
    for _ in range(5):
        try:
            with eventlet.Timeout(0.05) as mine, slow.cursor() as cursor:
                cursor.execute("SELECT SLEEP(5)")
        except eventlet.Timeout as caught:
            assert caught is mine
        else:
            raise AssertionError("the Timeout did not fire")
        slow = connect()
        with other.cursor() as cursor:
            cursor.execute("SELECT 42")
            assert cursor.fetchone() == (42,)


def green_psycopg2():
    """psycopg2 with eventlet.support.psycopg2_patcher's wait callback."""
    import psycopg2
    from eventlet.support import psycopg2_patcher

    psycopg2_patcher.make_psycopg_green()
    return psycopg2


POSTGRESQL = "host=127.0.0.1 port=5432 user=root dbname=test"


@in_own_process(patched=True, needs=[services.POSTGRESQL])
def test_psycopg2_runs_queries_side_by_side():
    import time

    import eventlet

    psycopg2 = green_psycopg2()

    def query(number):
        connection = psycopg2.connect(POSTGRESQL)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(0.2), %s, repeat('x', %s)", (number, number * 1000))
                _, echoed, filler = cursor.fetchone()
                assert len(filler) == number * 1000
                return echoed
        finally:
            connection.close()

    began = time.monotonic()
    with eventlet.Timeout(20):
        assert list(eventlet.GreenPool(10).imap(query, range(20))) == list(range(20))
    assert time.monotonic() - began < 4, "20 queries of 0.2 s did not run side by side"


@in_own_process(patched=True, needs=[services.POSTGRESQL])
def test_psycopg2_copies_much_data_both_ways_beside_others():

    import eventlet

    psycopg2 = green_psycopg2()
    ticks = 0

    def tick():
        nonlocal ticks
        while True:
            eventlet.sleep(0.001)
            ticks += 1

    ticker = eventlet.spawn(tick)
    connection = psycopg2.connect(POSTGRESQL)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE numbers (n int, filler text)")
        cursor.execute("INSERT INTO numbers SELECT n, repeat('y', 100) FROM generate_series(1, 20000) n")
        cursor.execute("SELECT n, filler FROM numbers ORDER BY n")
        rows = cursor.fetchall()
    assert [n for n, _ in rows] == list(range(1, 20001)) and all(len(f) == 100 for _, f in rows)
    assert ticks > 0, "nobody else ran"
    ticker.kill()
    connection.close()


@in_own_process(patched=True, needs=[services.POSTGRESQL])
def test_psycopg2_notifications_reach_a_waiting_green_thread():
    import eventlet
    from eventlet import hubs

    psycopg2 = green_psycopg2()
    listener, sender = psycopg2.connect(POSTGRESQL), psycopg2.connect(POSTGRESQL)
    listener.autocommit = sender.autocommit = True
    with listener.cursor() as cursor:
        cursor.execute("LISTEN uringhub_test")

    def wait():
        while not listener.notifies:
            hubs.trampoline(listener, read=True)
            listener.poll()
        return listener.notifies.pop().payload

    waiter = eventlet.spawn(wait)
    eventlet.sleep(0)
    with sender.cursor() as cursor:
        cursor.execute("NOTIFY uringhub_test, 'news'")
    with eventlet.Timeout(10):
        assert waiter.wait() == "news"


@in_own_process(patched=True, needs=[services.POSTGRESQL])
def test_pooled_psycopg2_connections_are_reused():
    import eventlet
    from eventlet import db_pool

    psycopg2 = green_psycopg2()
    pool = db_pool.RawConnectionPool(psycopg2, max_size=3, dsn=POSTGRESQL)
    pids = set()

    def query(number):
        connection = pool.get()
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid(), %s", (number,))
                pid, echoed = cursor.fetchone()
                pids.add(pid)
                return echoed
        finally:
            pool.put(connection)

    with eventlet.Timeout(20):
        assert list(eventlet.GreenPool(20).imap(query, range(60))) == list(range(60))
    assert len(pids) <= 3
