"""pynetdicom as a peer of storage commitment (PS3.4 annex J).

request PORT CLASS:INSTANCE...   asks for commitment and waits for the report over the same association;
                                 prints {"committed": [...], "failed": {uid: reason}}
serve PORT REPORT_PORT REASON    stores, takes requests, and reports every instance as failed for REASON over an
                                 association of its own; prints a line once it listens
called PORT OWN_PORT CERTIFICATE KEY AUTHORITY CLASS:INSTANCE...
                                 asks for commitment, leaves, and waits to be called back over TLS with certificates of
                                 both sides; prints what `request` prints
"""

import json
import ssl
import sys
import threading

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.sop_class import StorageCommitmentPushModel

INSTANCE = "1.2.840.10008.1.20.1.1"


def reference(sop_class, sop_instance):
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class
    item.ReferencedSOPInstanceUID = sop_instance
    return item


class Report:
    """The one report that is waited for."""

    def __init__(self):
        self.arrived = threading.Event()
        self.content = {}

    def on_report(self, event):
        information = event.event_information
        committed = information.get("ReferencedSOPSequence", [])
        failed = information.get("FailedSOPSequence", [])
        self.content = {
            "transaction": information.TransactionUID,
            "event_type": event.event_type,
            "committed": [item.ReferencedSOPInstanceUID for item in committed],
            "failed": {item.ReferencedSOPInstanceUID: item.FailureReason for item in failed},
        }
        self.arrived.set()
        return 0x0000, None

    def wait(self, transaction):
        assert self.arrived.wait(30), "no report"
        assert self.content.pop("transaction") == transaction
        return self.content


def ask(port, instances, handlers):
    """Asks for commitment; the association, still open, and the transaction."""
    ae = AE("MODALITY")
    ae.add_requested_context(StorageCommitmentPushModel)
    association = ae.associate("127.0.0.1", port, ae_title="PROSECTOR", evt_handlers=handlers)
    assert association.is_established, "no association"
    asked = Dataset()
    asked.TransactionUID = generate_uid()
    asked.ReferencedSOPSequence = [reference(*instance.split(":")) for instance in instances]
    status, _ = association.send_n_action(asked, 1, StorageCommitmentPushModel, INSTANCE)
    assert status.Status == 0x0000, f"status {status.Status:04X}"
    return association, asked.TransactionUID


def request(port, instances):
    report = Report()
    handlers = [(evt.EVT_N_EVENT_REPORT, report.on_report)]
    association, transaction = ask(port, instances, handlers)
    content = report.wait(transaction)
    association.release()
    print(json.dumps(content))


def called(port, own_port, certificate, key, authority, instances):
    report = Report()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    ae = AE("MODALITY")
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    server = ae.start_server(
        ("127.0.0.1", own_port),
        block=False,
        ssl_context=context,
        evt_handlers=[(evt.EVT_N_EVENT_REPORT, report.on_report)],
    )
    association, transaction = ask(port, instances, [])
    association.release()
    content = report.wait(transaction)
    server.shutdown()
    print(json.dumps(content))


def serve(port, report_port, reason):
    def report(asked):
        ae = AE("PACS")
        ae.add_requested_context(StorageCommitmentPushModel)
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid = StorageCommitmentPushModel
        role.scu_role, role.scp_role = False, True
        association = ae.associate(
            "127.0.0.1", report_port, ae_title="PROSECTOR", ext_neg=[role]
        )
        assert association.is_established, "no association for the report"
        information = Dataset()
        information.TransactionUID = asked.TransactionUID
        information.FailedSOPSequence = []
        for item in asked.ReferencedSOPSequence:
            failed = reference(item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID)
            failed.FailureReason = reason
            information.FailedSOPSequence.append(failed)
        status, _ = association.send_n_event_report(
            information, 2, StorageCommitmentPushModel, INSTANCE
        )
        print(f"report answered {status.Status:04X}", flush=True)
        association.release()

    def on_action(event):
        threading.Thread(target=report, args=[event.action_information]).start()
        return 0x0000, None

    ae = AE("PACS")
    ae.supported_contexts = []
    for uid in ["1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.1.1", StorageCommitmentPushModel]:
        ae.add_supported_context(uid, ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
    print("listening", flush=True)
    ae.start_server(
        ("127.0.0.1", port),
        evt_handlers=[(evt.EVT_C_STORE, lambda event: 0x0000), (evt.EVT_N_ACTION, on_action)],
    )


if __name__ == "__main__":
    mode, *arguments = sys.argv[1:]
    if mode == "request":
        request(int(arguments[0]), arguments[1:])
    elif mode == "called":
        called(int(arguments[0]), int(arguments[1]), *arguments[2:5], arguments[5:])
    else:
        serve(int(arguments[0]), int(arguments[1]), int(arguments[2], 0))
