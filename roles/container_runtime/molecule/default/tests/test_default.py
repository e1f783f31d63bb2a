"""A runtime that runs a container in its own control group and asks the site's registry only."""


def test_service_runs_and_survives_a_restart(host):
    service = host.service("containerd")
    assert service.is_running
    assert service.is_enabled


def test_images_come_from_the_sites_registry_by_its_authority(host):
    trust = host.file("/etc/containerd/certs.d/svc01.summit:5000/hosts.toml").content_string
    assert "server = 'https://svc01.summit:5000'" in trust
    assert "ca = '/etc/dpp/tls/ca.crt'" in trust
    assert "elsewhere" not in trust


def test_configuration_is_what_containerd_understands(host):
    loaded = host.check_output("containerd config dump 2>/dev/null")
    assert "config_path = '/etc/containerd/certs.d'" in loaded
    assert "sandbox = 'svc01.summit:5000/dpp/pause:3.10.2'" in loaded
    assert "bin_dirs = ['/usr/lib/cni']" in loaded


def test_cgroup_driver_is_the_hosts(host):
    unified = host.file("/sys/fs/cgroup/cgroup.controllers").exists
    assert f"SystemdCgroup = {str(unified).lower()}" in host.check_output("containerd config dump 2>/dev/null")


def test_the_container_interface_answers(host):
    plugins = host.check_output("ctr plugins list")
    rows = [line.split() for line in plugins.splitlines()]
    state = {row[1]: row[-1] for row in rows if row[0] == "io.containerd.cri.v1"}
    assert state == {"images": "ok", "runtime": "ok"}


def test_volumes_belong_to_the_workloads(host):
    folder = host.file("/var/lib/dpp/volumes/archiver-journal")
    assert (folder.uid, folder.gid, folder.mode) == (10001, 10001, 0o2770)
