"""A DICOMweb server that takes STOW-RS from whoever has the token, with pydicom as its reader.

PORT TOKEN FOLDER [CERTIFICATE KEY CA]   writes what it takes to FOLDER; prints a line for each request
"""

import email
import io
import json
import pathlib
import ssl
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import pydicom

port, token, folder, *tls = sys.argv[1:]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def is_let_in(self):
        return self.headers.get("Authorization") == f"Bearer {token}"

    def do_GET(self):
        self.answer(200 if self.is_let_in() else 401, [])

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.is_let_in():
            return self.answer(401, {})
        assert self.path == "/dicom-web/studies", self.path
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + body)
        assert message.get_param("type") == "application/dicom", message.get_params()
        (part,) = message.get_payload()
        assert part.get_content_type() == "application/dicom"
        content = part.get_payload(decode=True)
        uid = pydicom.dcmread(io.BytesIO(content)).SOPInstanceUID
        pathlib.Path(folder, f"{uid}.dcm").write_bytes(content)
        reference = {"00081155": {"vr": "UI", "Value": [uid]}}
        self.answer(200, {"00081199": {"vr": "SQ", "Value": [reference]}})


server = HTTPServer(("127.0.0.1", int(port)), Handler)
if tls:
    certificate, key, authority = tls
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
print("listening", flush=True)
server.serve_forever()
