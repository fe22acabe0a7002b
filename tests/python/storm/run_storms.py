"""Runs many storms, several at once, and gathers exit statuses, what was written to stderr, and cores.

    python run_storms.py --runs 500 --jobs 5 --hub uring+uring [--python PATH/TO/python3-dbg]

Any output on stderr is a failure: a hub writes there what it could not deliver. Each storm has a folder of
its own, so that a core stays with its seed; failed ones are kept and their traceback printed when gdb is at
hand.
"""

import argparse
import collections
import concurrent.futures
import glob
import os
import resource
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from isolated import ALL_HUBS, OURS, environment  # noqa: E402


def allow_cores():
    """In the child, before exec."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


def one_storm(args, hub, seed, folder):
    """Returns (kind of end, what to show); the kind is 'passed' when all is well."""
    os.makedirs(folder)
    command = [args.python, os.path.join(HERE, "storm.py"), "--seed", str(seed), "--rounds", str(args.rounds)]
    command += ["--ops", str(args.ops), "--hang-after-s", str(args.timeout_s)]
    env = environment(hub, {"PYTHONWARNINGS": "ignore", "PYTHONDONTWRITEBYTECODE": "1"})
    try:
        done = subprocess.run(
            command, env=env, cwd=folder, capture_output=True, text=True, timeout=args.timeout_s + 30,
            preexec_fn=allow_cores,
        )  # fmt: skip
    except subprocess.TimeoutExpired as e:
        return "hung", f"seed {seed} on {hub.name}: no end\n{e.stderr or ''}"
    told = f"seed {seed} on {hub.name}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    if done.returncode == 0 and not done.stderr:
        shutil.rmtree(folder)
        return "passed", ""
    with open(os.path.join(folder, "output"), "w") as output:
        output.write(told)
    if done.returncode < 0:
        return f"signal {-done.returncode}", told + backtrace(args.python, folder)
    if "Timeout (" in done.stderr:
        return "hung", told
    return "violated" if done.returncode else "wrote to stderr", told


def backtrace(python, folder):
    """What gdb says of the core left in `folder`."""
    cores = glob.glob(os.path.join(folder, "core*"))
    if not cores:
        return "(no core)"
    gdb = shutil.which("gdb")
    if not gdb:
        return f"(core: {cores[0]}; no gdb)"
    real = subprocess.run([python, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True)
    commands = [gdb, "-q", "-batch", "-ex", "bt 40", os.path.realpath(real.stdout.strip()), cores[0]]
    return subprocess.run(commands, capture_output=True, text=True, timeout=120).stdout[-6000:]


def main():
    """Runs the storms, prints each failure and a summary per hub; exit status 1 when any storm failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=500, help="storms per hub")
    parser.add_argument("--jobs", type=int, default=5, help="at the same time")
    parser.add_argument(
        "--hub", action="append", choices=[hub.name for hub in ALL_HUBS], help="default: ours on both drivers"
    )
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--ops", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1, help="of the first storm; the others count up")
    parser.add_argument("--timeout-s", type=float, default=60, help="of one round")
    args = parser.parse_args()
    top = tempfile.mkdtemp(prefix="storm-")
    failed = 0
    chosen = [hub for hub in ALL_HUBS if hub.name in (args.hub or [])] or OURS
    for hub in chosen:
        ends = collections.Counter()
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            runs = [
                pool.submit(one_storm, args, hub, seed, os.path.join(top, f"{hub.name}-{seed}"))
                for seed in range(args.seed, args.seed + args.runs)
            ]
            for run in concurrent.futures.as_completed(runs):
                kind, told = run.result()
                ends[kind] += 1
                if told and ends[kind] <= 5:
                    print(told, flush=True)
        failed += args.runs - ends["passed"]
        print(f"{hub.name}: {args.runs} storms, {args.jobs} at once: {dict(ends)}", flush=True)
    print(f"failed storms are kept in {top}" if failed else "every storm balanced")
    if not failed:
        shutil.rmtree(top)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
