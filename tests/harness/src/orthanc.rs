//! Orthanc from Debian's packages, as the hospital's PACS.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::service::{Service, bound_command, free_port, program, wait_until};

/// An Orthanc server that accepts every sender, with its REST interface.
#[derive(Debug)]
pub struct Orthanc {
    service: Service,
    dicom_port: u16,
    http_port: u16,
}

/// A peer that Orthanc may send to.
#[derive(Debug, Clone)]
pub struct Modality<'a> {
    /// Name in Orthanc's REST interface.
    pub name: &'a str,
    /// Application entity title.
    pub ae_title: &'a str,
    /// Port on the loopback interface.
    pub port: u16,
}

/// Application entity title of the server.
pub const AE_TITLE: &str = "ORTHANC";

impl Orthanc {
    /// Starts a server that knows the given peers.
    ///
    /// # Errors
    /// When Orthanc is missing or does not answer within half a minute.
    pub fn start(peers: &[Modality<'_>]) -> Result<Self> {
        Self::start_on(free_port()?, peers)
    }

    /// Starts a server on a chosen DICOM port.
    ///
    /// # Errors
    /// When Orthanc is missing or does not answer within half a minute.
    pub fn start_on(dicom_port: u16, peers: &[Modality<'_>]) -> Result<Self> {
        program("Orthanc", "orthanc", &["/usr/sbin"])?;
        let folder = tempfile::Builder::new().prefix("orthanc-").tempdir()?;
        let http_port = free_port()?;
        let modalities: serde_json::Map<String, Value> = peers
            .iter()
            .map(|peer| (peer.name.to_owned(), json!([peer.ae_title, "127.0.0.1", peer.port])))
            .collect();
        let settings = json!({
            "Name": "prosector tests",
            "StorageDirectory": folder.path().join("storage"),
            "IndexDirectory": folder.path().join("storage"),
            "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
            "HttpPort": http_port,
            "DicomPort": dicom_port,
            "DicomAet": AE_TITLE,
            "DicomCheckCalledAet": true,
            "DicomAlwaysAllowStore": true,
            "DicomModalities": modalities,
            "RemoteAccessAllowed": false,
            "AuthenticationEnabled": false,
            "OverwriteInstances": false,
            "StableAge": 1,
        });
        let path = folder.path().join("orthanc.json");
        std::fs::write(&path, serde_json::to_vec_pretty(&settings)?)?;
        let mut command = bound_command("Orthanc", None);
        command.arg(&path).env("TCP_NODELAY", "1");
        let service = Service::start("orthanc", folder, command)?;
        let server = Self { service, dicom_port, http_port };
        wait_until("Orthanc to answer", Duration::from_secs(30), || {
            server.get("system").map(|answer| answer.is_object())
        })
        .with_context(|| format!("log of Orthanc: {}", server.service.log()))?;
        Ok(server)
    }

    /// DICOM port on the loopback interface.
    pub fn dicom_port(&self) -> u16 {
        self.dicom_port
    }

    /// Root of the REST interface.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// The service, to be stopped, paused or looked into.
    pub fn service(&mut self) -> &mut Service {
        &mut self.service
    }

    /// Starts the server again on its data after [`Service::kill`].
    ///
    /// # Errors
    /// When it does not come back.
    pub fn start_again(&mut self) -> Result<()> {
        let mut command: Command = bound_command("Orthanc", None);
        command.arg(self.service.folder().join("orthanc.json")).env("TCP_NODELAY", "1");
        self.service.restart(command)?;
        wait_until("Orthanc to answer", Duration::from_secs(30), || {
            self.get("system").map(|answer| answer.is_object())
        })
    }

    /// Reads a JSON resource.
    ///
    /// # Errors
    /// When the server does not answer with JSON.
    pub fn get(&self, path: &str) -> Result<Value> {
        let mut answer = ureq::get(format!("{}/{path}", self.url())).call()?;
        Ok(answer.body_mut().read_json()?)
    }

    /// Sends a JSON document.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let mut answer = ureq::post(format!("{}/{path}", self.url())).send_json(body)?;
        Ok(answer.body_mut().read_json()?)
    }

    /// Replaces a resource that has no body of its own to answer with.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn put(&self, path: &str, body: &Value) -> Result<()> {
        ureq::put(format!("{}/{path}", self.url())).send_json(body)?;
        Ok(())
    }

    /// Gives the server a file.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn store(&self, file: &[u8]) -> Result<()> {
        ureq::post(format!("{}/instances", self.url())).send(file)?;
        Ok(())
    }

    /// Downloads the file of an instance, given Orthanc's own identifier.
    ///
    /// # Errors
    /// When the server does not have it.
    pub fn file(&self, instance: &str) -> Result<Vec<u8>> {
        let mut answer = ureq::get(format!("{}/instances/{instance}/file", self.url())).call()?;
        Ok(answer.body_mut().with_config().limit(1 << 32).read_to_vec()?)
    }

    /// Orthanc's identifiers of all instances of a modality.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn instances_of_modality(&self, modality: &str) -> Result<Vec<String>> {
        let found = self
            .post("tools/find", &json!({"Level": "Instance", "Query": {"Modality": modality}}))?;
        Ok(serde_json::from_value(found)?)
    }
}
