"""The summit's store tells how many nights still fit."""

import json


def test_the_timer_runs_and_survives_a_restart(host):
    timer = host.service("summit-storage-capacity.timer")
    assert timer.is_running
    assert timer.is_enabled


def test_room_falls_by_what_is_stored(host):
    before = json.loads(host.check_output("summit-storage status --json"))
    host.check_output("dd if=/dev/urandom of=/srv/object-store/data/probe bs=1M count=8 status=none && sync")
    after = json.loads(host.check_output("summit-storage status --json"))
    host.check_output("rm /srv/object-store/data/probe")
    assert after["used_bytes"] - before["used_bytes"] >= 8 * 2**20
    assert before["free_bytes"] - after["free_bytes"] >= 8 * 2**20
    assert 0 < after["nights_left"] < before["nights_left"] <= 10


def test_figures_reach_node_exporter(host):
    host.check_output("systemctl start summit-storage-capacity.service")
    assert (
        "summit_storage_nights_left"
        in host.file("/var/lib/prometheus/node-exporter/summit-storage.prom").content_string
    )


def test_drift_was_repaired(host):
    assert json.loads(host.file("/etc/summit-storage/capacity.json").content_string)["nights"] == 10
