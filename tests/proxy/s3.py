"""An S3 server in a thread of this process: moto's, with one bucket."""

from __future__ import annotations

import http.client
import logging

from moto.server import ThreadedMotoServer

NAME = "videos"


class Bucket:
    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self._folders = 0
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }
        connection = http.client.HTTPConnection(host, port)
        connection.request("PUT", f"/{NAME}")
        assert connection.getresponse().status == 200
        connection.close()

    def new_folder(self) -> str:
        """Return the URL of an empty prefix of the bucket."""
        self._folders += 1
        return f"s3://{NAME}/tests/{self._folders}"

    def close(self) -> None:
        self._server.stop()
