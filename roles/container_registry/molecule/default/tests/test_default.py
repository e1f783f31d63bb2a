"""A registry that takes an image, gives it back by digest, and speaks TLS only."""

import json

PUSH_AND_PULL = """
import hashlib, json, ssl, urllib.request
base, trust = "https://svc01.base:5000/v2/probe/", ssl.create_default_context(cafile="/etc/dpp/tls/ca.crt")
def call(method, url, body=None, kind="application/octet-stream", accept="*/*"):
    request = urllib.request.Request(url, body, {"Content-Type": kind, "Accept": accept}, method=method)
    return urllib.request.urlopen(request, context=trust, timeout=10)
def blob(body):
    digest = "sha256:" + hashlib.sha256(body).hexdigest()
    place = call("POST", base + "blobs/uploads/", b"").headers["Location"]
    call("PUT", place + ("&" if "?" in place else "?") + "digest=" + digest, body)
    return {"digest": digest, "size": len(body)}
kind = "application/vnd.oci.image.manifest.v1+json"
config = blob(b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}')
manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "layers": [],
                       "config": {**config, "mediaType": "application/vnd.oci.image.config.v1+json"}}).encode()
digest = call("PUT", base + "manifests/1", manifest, kind).headers["Docker-Content-Digest"]
print(json.dumps({"digest": digest, "same": call("GET", base + "manifests/" + digest, accept=kind).read() == manifest}))
"""


def test_service_runs_and_survives_a_restart(host):
    service = host.service("docker-registry")
    assert service.is_running
    assert service.is_enabled


def test_an_image_comes_back_by_its_digest(host):
    result = json.loads(host.check_output("python3 -c %s", PUSH_AND_PULL))
    assert result["digest"].startswith("sha256:")
    assert result["same"]


def test_only_tls_is_spoken(host):
    assert host.check_output("curl -s --max-time 5 https://svc01.base:5000/v2/") == "{}"
    assert "HTTP request to an HTTPS server" in host.run("curl -s --max-time 5 http://svc01.base:5000/v2/").stdout


def test_drift_was_repaired(host):
    assert "addr: :5000" in host.file("/etc/docker/registry/config.yml").content_string
