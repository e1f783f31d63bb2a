"""An object store that keeps what it is given, for those who have a key, and is repaired when somebody changed it."""

import json

CLIENT = """
import boto3, hashlib, json, sys
from botocore.exceptions import ClientError
secret = sys.argv[1]
def client(access, secret):
    return boto3.client("s3", endpoint_url="https://svc01.base:7480", region_name="us-east-1", verify="/etc/dpp/tls/ca.crt",
                        aws_access_key_id=access, aws_secret_access_key=secret)
s3 = client("workloads", secret)
body = bytes(range(256)) * 4096
put = s3.put_object(Bucket="raw", Key="a/b/c.fits", Body=body, ChecksumAlgorithm="SHA256", Metadata={"visit": "1"})
got = s3.get_object(Bucket="raw", Key="a/b/c.fits", ChecksumMode="ENABLED")
same = hashlib.sha256(got["Body"].read()).hexdigest() == hashlib.sha256(body).hexdigest()
refused = []
for access, wrong in (("workloads", "wrong"), ("nobody", secret)):
    try:
        client(access, wrong).list_buckets()
    except ClientError as error:
        refused.append(error.response["Error"]["Code"])
print(json.dumps({"same": same, "sha256": put["ChecksumSHA256"], "got": got["ChecksumSHA256"], "metadata": got["Metadata"],
                  "buckets": [b["Name"] for b in s3.list_buckets()["Buckets"]], "refused": refused}))
"""


def test_service_runs_and_survives_a_restart(host):
    service = host.service("object-store")
    assert service.is_running
    assert service.is_enabled


def test_objects_come_back_whole_and_strangers_are_refused(host):
    users = json.loads(host.file("/srv/object-store/iam/users.json").content_string)["accessAccounts"]
    result = json.loads(host.check_output("python3 -c %s %s", CLIENT, users["workloads"]["secret"]))
    assert result["same"]
    assert result["sha256"] == result["got"]
    assert result["metadata"] == {"visit": "1"}
    assert result["buckets"] == ["raw"]
    assert result["refused"] == ["SignatureDoesNotMatch", "InvalidAccessKeyId"]


def test_drift_was_repaired(host):
    assert "VGW_QUIET=true" in host.file("/etc/object-store/environment").content_string


def test_secrets_are_their_owners(host):
    assert host.file("/etc/object-store/environment").mode == 0o600
    assert host.file("/srv/object-store/iam/users.json").mode == 0o600


def test_only_tls_is_spoken(host):
    assert host.run("curl -s --max-time 5 http://svc01.base:7480/health").rc != 0
    assert (
        host.check_output("curl -s --max-time 5 https://svc01.base:7480/health -o /dev/null -w '%{http_code}'") == "200"
    )
