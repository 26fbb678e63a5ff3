"""pynetdicom as a peer of storage commitment (PS3.4 annex J).

request PORT CLASS:INSTANCE...   asks for commitment and waits for the report over the same association;
                                 prints {"committed": [...], "failed": {uid: reason}}
serve PORT REPORT_PORT REASON    stores, takes requests, and reports every instance as failed for REASON over an
                                 association of its own; prints a line once it listens
"""

import json
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


def request(port, instances):
    reported = threading.Event()
    report = {}

    def on_report(event):
        information = event.event_information
        committed = information.get("ReferencedSOPSequence", [])
        failed = information.get("FailedSOPSequence", [])
        report["transaction"] = information.TransactionUID
        report["event_type"] = event.event_type
        report["committed"] = [item.ReferencedSOPInstanceUID for item in committed]
        report["failed"] = {item.ReferencedSOPInstanceUID: item.FailureReason for item in failed}
        reported.set()
        return 0x0000, None

    ae = AE("MODALITY")
    ae.add_requested_context(StorageCommitmentPushModel)
    association = ae.associate(
        "127.0.0.1", port, ae_title="PROSECTOR", evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)]
    )
    assert association.is_established, "no association"
    asked = Dataset()
    asked.TransactionUID = generate_uid()
    asked.ReferencedSOPSequence = [reference(*instance.split(":")) for instance in instances]
    status, _ = association.send_n_action(asked, 1, StorageCommitmentPushModel, INSTANCE)
    assert status.Status == 0x0000, f"status {status.Status:04X}"
    assert reported.wait(30), "no report"
    association.release()
    assert report.pop("transaction") == asked.TransactionUID
    print(json.dumps(report))


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
    else:
        serve(int(arguments[0]), int(arguments[1]), int(arguments[2], 0))
