"""A pretraining run beside the flow: processes on this machine, or a job of Slurm.

Processes end with the flow: when its process dies they get SIGTERM, save and leave. A job of Slurm
goes on by itself, and the next run of the flow finds it by its name.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from groundwork.errors import InputError, LimitReachedError
from training.errors import TrainingError

Say = Callable[[str], None]

_POLL_S: Final = 15.0
_LAST_LINES: Final = 20
REQUEUE_NAME: Final = "requeue"


def run_processes(config: Path, out: Path, num_processes: int, say: Say) -> bool:
    """Run a pretraining to its end, or until it is asked to stop.

    Args:
        config: YAML of the run.
        out: its folder.
        num_processes: one per GPU.
        say: told every line.

    Returns:
        Whether it is done; False where it saved itself for the next run.

    Raises:
        LimitReachedError: a single process stopped at a limit, such as a full disk.
        TrainingError: it failed; with its last line.
    """
    command = [sys.executable, "-m", "training.pretrain", str(config)]
    if num_processes > 1:
        launcher = ["torch.distributed.run", "--standalone", f"--nproc_per_node={num_processes}"]
        command[2:2] = [*launcher, "-m"]
    lines: list[str] = []
    with _child(command) as process:
        assert process.stderr is not None
        for line in process.stderr:
            lines = [*lines[1 - _LAST_LINES :], line.rstrip()]
            say(lines[-1])
        code = process.wait()
    if (out / REQUEUE_NAME).exists():
        return False
    if code != 0:
        told = [line for line in lines if line.startswith("softcon: ")]
        sentence = told[-1].removeprefix("softcon: ") if told else "\n".join(lines)
        # torchrun ends with 1 whatever its processes return: with several, a limit is a failure.
        limit = code == LimitReachedError.exit_code
        raise LimitReachedError(sentence) if limit else TrainingError(sentence)
    return True


@contextmanager
def _child(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Start a process that does not outlive this one."""
    if setpriv := shutil.which("setpriv"):  # of util-linux
        command = [setpriv, "--pdeathsig", "TERM", "--", *command]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()


def run_slurm_job(config: Path, out: Path, script: Path, say: Say) -> bool:
    """Submit a pretraining to Slurm, or join the job of the same name, and wait for its end.

    Args:
        config: YAML of the run, in a folder that the nodes see.
        out: the run's folder; names the job.
        script: for sbatch, such as configs/cluster/pretrain.slurm.
        say: told about the job's states.

    Returns:
        True: a job that ends without a result raises.

    Raises:
        InputError: there is no Slurm here.
        TrainingError: the job failed.
    """
    if shutil.which("sbatch") is None:
        raise InputError("sbatch is not installed here: run the flow where Slurm is")
    name = f"softcon-{out.resolve().name}"
    job = _slurm("squeue", "--noheader", f"--name={name}", "--format=%i").split()
    if job:
        say(f"joining job {job[0]}, which is at it already")
    else:
        job = _slurm("sbatch", "--parsable", f"--job-name={name}", str(script), str(config)).split(
            ";"
        )
        say(f"submitted as job {job[0]}")
    state = ""
    while (now := _state(job[0])) not in {"COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL"}:
        if now != state:
            state = now
            say(f"job {job[0]}: {state.lower()}")
        time.sleep(_POLL_S)
    if now != "COMPLETED":
        raise TrainingError(f"Slurm job {job[0]} ended as {now.lower()}: see its log")
    return True


def _state(job: str) -> str:
    waiting = _slurm("squeue", "--noheader", f"--jobs={job}", "--format=%T", check=False).strip()
    if waiting:
        return waiting
    ended = _slurm("sacct", "-n", "-X", f"--jobs={job}", "--format=State").split()
    return ended[0] if ended else "COMPLETED"


def _slurm(*command: str, check: bool = True) -> str:
    done = subprocess.run(  # noqa: S603 - Slurm's own programs
        command, capture_output=True, text=True, check=False
    )
    if check and done.returncode != 0:
        raise TrainingError(f"{command[0]} failed: {done.stderr.strip() or done.returncode}")
    return done.stdout
