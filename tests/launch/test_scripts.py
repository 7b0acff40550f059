"""The launchers of clusters: dry runs, their manifest against the published schema, and shellcheck."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted(LAUNCH.rglob("*.sh"))
TPU = ("--name", "math", "--zone", "us-west4-a", "--type", "v5litepod-16", "--bucket", "my-runs")
GKE = ("--name", "math", "--accelerator", "tpu-v5-lite-podslice", "--topology", "4x4", "--image", "r.io/p/i:1")
COMMAND = ("--", "stepjax", "ppo", '--config.task.jsonl.prompt={problem} "so": ', "--workdir=/mnt/runs/math")


def script(name: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", str(LAUNCH / name), *arguments], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_shellcheck(path):
    tool = shutil.which("shellcheck") or str(Path(sys.executable).parent / "shellcheck")
    if not Path(tool).exists():
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([tool, str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["tpu_vm.sh", "slurm.sh", "gke/run.sh", "check_gpu.sh"])
def test_help_says_what_it_costs_and_how_to_stop_it(name):
    done = script(name, "--help")
    assert done.returncode == 0
    assert "Cost: " in done.stdout and "Stop: " in done.stdout and "--dry-run" in done.stdout
    assert "set -euo" not in done.stdout


def test_tpu_vm_prints_what_it_would_do():
    done = script("tpu_vm.sh", *TPU, "--spot", "--project", "p", "--dry-run", *COMMAND)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("--zone us-west4-a --project p") == 6
    create, describe, pack, copy, prepare, start, delete = done.stdout.splitlines()
    assert "queued-resources create math" in create and create.rstrip().endswith("--spot")
    assert "--accelerator-type v5litepod-16 --runtime-version v2-alpha-tpuv5-lite" in create
    assert "queued-resources describe math" in describe
    assert pack.startswith("tar ") and " stepjax configs" in pack
    assert "tpu-vm scp" in copy and "--worker=all" in copy
    assert "gcsfuse" in prepare and "my-runs" in prepare and "--worker=all" in prepare
    assert "tpu-vm ssh math" in start and "stepjax\\ ppo" in start and "--worker=all" in start
    assert "queued-resources delete math" in delete and "--force" in delete
    assert "delete" not in script("tpu_vm.sh", *TPU, "--keep", "--dry-run", *COMMAND).stdout


FAKE = """#!/usr/bin/env bash
echo "$*" >> "$FAKE_LOG"
runs=$(grep -c 'ssh math.*PATH=' "$FAKE_LOG")
case "$*" in
  # The second slice is taken away after its first run.
  *describe*)
    if [ "$runs" != 2 ] || [ -e "$FAKE_LOG.gone" ]; then echo ACTIVE; exit; fi
    touch "$FAKE_LOG.gone"; echo SUSPENDED ;;
  *ssh*PATH=*)
    case "$runs$FAKE_FATE" in
      1*) echo 'stepjax: SIGTERM: PPO round 7 is saved; the same command continues'; exit 1 ;;
      2*) exit 255 ;;
      3mistake) echo 'stepjax: config.ppo.prompts: must be at least 1' >&2; exit 1 ;;
    esac ;;
esac
exit 0
"""


@pytest.mark.parametrize(("fate", "status"), [("", 0), ("mistake", 1)])
def test_tpu_vm_goes_on_after_interruptions_and_deletes_the_slice_at_the_end(tmp_path, monkeypatch, fate, status):
    (tmp_path / "gcloud").write_text(FAKE)
    (tmp_path / "sleep").write_text("#!/bin/sh\n")
    for name in ("gcloud", "sleep"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("FAKE_FATE", fate)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = script("tpu_vm.sh", *TPU, "--", "stepjax", "ppo")
    assert done.returncode == status, done.stderr
    log = (tmp_path / "log").read_text().splitlines()
    kinds = [next(k for k in ("create", "delete", "describe", "scp", "PATH=", "ssh") if k in line) for line in log]
    first = ["create", "describe", "scp", "ssh", "PATH=", "describe"]
    # Interrupted on a slice that stays: the same one goes on. Taken away: a new one does.
    assert kinds[: len(first)] == first and kinds[6:9] == ["PATH=", "describe", "delete"]
    assert kinds[9:14] == ["create", "describe", "scp", "ssh", "PATH="] and kinds[-1] == "delete"
    assert kinds.count("create") == kinds.count("delete") == 2 and kinds.count("PATH=") == 3
    assert "continues (1 of 20)" in done.stderr and "slice SUSPENDED) and continues (2 of 20)" in done.stderr
    assert not list(tmp_path.glob("stepjax-*"))


def test_slurm_prints_what_it_would_do():
    done = script("slurm.sh", "--nodes", "4", "--gpus", "2", "--partition", "gpu", "--dry-run", *COMMAND)
    assert done.returncode == 0, done.stderr
    submit, start = done.stdout.splitlines()
    assert submit.startswith("sbatch --job-name stepjax --nodes 4 --ntasks-per-node 2 --gpus-per-node 2")
    assert "--signal TERM@120 --requeue" in submit and "--partition gpu" in submit and "--inside stepjax ppo" in submit
    assert start.startswith("srun ") and "stepjax ppo" in start


@pytest.mark.parametrize(("status", "again"), [(0, False), (2, False), (75, True)])
def test_slurm_queues_a_run_again_that_was_interrupted(tmp_path, monkeypatch, status, again):
    (tmp_path / "srun").write_text(f"#!/bin/sh\nexit {status}\n")
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    for name in ("srun", "scontrol"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    assert script("slurm.sh", "--inside", "stepjax", "ppo").returncode == status
    assert (tmp_path / "asked").exists() == again
    if again:
        assert (tmp_path / "asked").read_text() == "requeue 77\n"


def manifest(*more: str) -> dict:
    yaml = pytest.importorskip("yaml")
    done = script("gke/run.sh", *GKE, "--claim", "runs", *more, "--dry-run", *COMMAND)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "# kubectl apply -f -"
    return yaml.safe_load(done.stdout)


@pytest.mark.parametrize("more", [(), ("--slices", "4", "--chips", "8", "--restarts", "3")])
def test_the_manifest_is_a_jobset_by_the_published_schema(more):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(__file__).parent / "jobset_v1alpha2.json").read_text())["schema"]
    jsonschema.Draft202012Validator.check_schema(schema)
    found = manifest(*more)
    jsonschema.Draft202012Validator(schema).validate(found)
    wrong = manifest(*more)
    wrong["spec"]["replicatedJobs"][0]["template"]["spec"]["paralelism"] = 1
    with pytest.raises(jsonschema.ValidationError, match="paralelism"):
        jsonschema.Draft202012Validator(schema).validate(wrong)


def test_the_manifest_says_what_was_asked():
    found = manifest("--slices", "2")
    assert (found["kind"], found["metadata"]["name"]) == ("JobSet", "math")
    (job,) = found["spec"]["replicatedJobs"]
    assert job["replicas"] == 2 and job["template"]["spec"]["parallelism"] == 4  # 4x4 chips, 4 a host
    pod = job["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == list(COMMAND[1:])
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "4x4"
    left = {"NAME", "RESTARTS", "SLICES", "HOSTS", "ACCELERATOR", "TOPOLOGY", "IMAGE", "CHIPS", "CLAIM", "COMMAND"}
    assert not left & set(json.dumps(found).replace('"', " ").split())


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("tpu_vm.sh", ("--dry-run", "--", "x"), "--name is missing"),
        ("tpu_vm.sh", (*TPU, "--dry-run"), "name a command"),
        ("tpu_vm.sh", ("--nmae", "x"), "what is '--nmae'?"),
        ("tpu_vm.sh", (*TPU, "--type", "v99-8", "--dry-run", "--", "x"), "no default for type 'v99-8'"),
        ("slurm.sh", ("--nodes", "0", "--", "x"), "--nodes must be a positive number"),
        ("gke/run.sh", (*GKE, "--", "x"), "--claim is missing"),
        ("gke/run.sh", (*GKE, "--claim", "c", "--chips", "3", "--", "x"), "--chips 3 does not divide the 16 chips"),
        ("gke/run.sh", (*GKE, "--claim", "c", "--topology", "4by4", "--", "x"), "--topology must be written"),
        ("gke/run.sh", (*GKE, "--claim", "c: d", "--", "x"), "is no name of"),
    ],
)
def test_mistakes_are_one_line_and_status_2(name, arguments, told):
    done = script(name, *arguments)
    assert done.returncode == 2 and told in done.stderr and done.stderr.count("\n") == 1


def test_check_gpu_prints_what_it_would_do():
    done = script("check_gpu.sh", "--only", "tests,bench", "--dry-run")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "tests/device" in lines[0] and len(lines) == 1 + 3 * 4 + 1
    assert all(line.startswith("stepjax bench ") and "--json" in line for line in lines[1:])


def test_check_gpu_refuses_what_is_no_part():
    done = script("check_gpu.sh", "--only", "bench,tets", "--dry-run")
    assert done.returncode == 2 and done.stderr.startswith("launch/check_gpu.sh: --only: no part 'tets'")


FAKE_BENCH = """#!/bin/sh
case "$*" in *update*) echo out of memory >&2; exit 1 ;; esac
echo '{"repeat": 1}'; echo '{"repeat": "median", "tokens_per_second": 7.0, "device": "1 × NVIDIA"}'
"""


def test_check_gpu_gathers_figures_and_failures(tmp_path):
    (tmp_path / "stepjax").write_text(FAKE_BENCH)
    (tmp_path / "stepjax").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    argv = ["bash", str(LAUNCH / "check_gpu.sh"), "--only", "bench", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "out" / "check.json").read_text()) and len(found) == 13
    rollout, update = found["rollout-135m"], found["update-0.5b"]
    assert (rollout["status"], rollout["tokens_per_second"], rollout["device"]) == (0, 7.0, "1 × NVIDIA")
    assert update["status"] == 1 and update["error"] == "out of memory"


def test_check_gpu_leaves_out_what_does_not_fit_its_time(tmp_path):
    (tmp_path / "out").mkdir()  # of an earlier check, whose figures are not this one's
    (tmp_path / "out" / "round-gsm8k_qwen05b.out").write_text('{"tokens_per_second": 7.0}\n')
    done = script("check_gpu.sh", "--only", "round", "--seconds", "9", "--out", str(tmp_path / "out"))
    assert json.loads(done.stdout) == {"round-gsm8k_qwen05b": {"status": "left_out", "wall_seconds": 0}}


def test_ctrl_c_ends_check_gpu_and_what_it_runs(tmp_path):
    (tmp_path / "stepjax").write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 1000\n")
    (tmp_path / "stepjax").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    argv = ["bash", str(LAUNCH / "check_gpu.sh"), "--only", "round", "--out", str(tmp_path / "out")]
    # A shell cannot trap a signal that is ignored when it begins, as in what another shell runs behind it.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(argv, env={**os.environ, "PATH": path}, start_new_session=True, preexec_fn=heard)
    try:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        child, end = int((tmp_path / "pid").read_text()), time.monotonic() + 10
        while time.monotonic() < end and os.path.exists(f"/proc/{child}"):
            time.sleep(0.01)
        assert not os.path.exists(f"/proc/{child}")
    finally:
        process.kill()
