//! DCMTK's archive, as a PACS that answers C-FIND and C-MOVE.

use std::time::Duration;

use anyhow::Result;

use crate::dcmtk::{Peer, echoscu};
use crate::service::{Service, bound_command, free_port, program, wait_until};

/// A running `dcmqrscp` that takes everything and sends to one peer.
#[derive(Debug)]
pub struct Dcmqrscp {
    service: Service,
    port: u16,
}

impl Dcmqrscp {
    /// Application entity title of the archive.
    pub const AE_TITLE: &str = "ARCHIVE";

    /// Starts an archive that knows `peer` as a move destination.
    ///
    /// # Errors
    /// When dcmqrscp is missing or does not answer within half a minute.
    pub fn start(peer: Peer<'_>) -> Result<Self> {
        let path = program("dcmqrscp", "dcmtk", &["/usr/bin"])?;
        let folder = tempfile::Builder::new().prefix("dcmqrscp-").tempdir()?;
        let archive = folder.path().join("archive");
        std::fs::create_dir(&archive)?;
        let port = free_port()?;
        let settings = format!(
            "NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n\
             HostTable BEGIN\npeer = ({}, 127.0.0.1, {})\nHostTable END\n\
             VendorTable BEGIN\nVendorTable END\n\
             AETable BEGIN\n{} {} RW (200, 1024mb) ANY\nAETable END\n",
            peer.ae_title,
            peer.port,
            Self::AE_TITLE,
            archive.display()
        );
        let settings_path = folder.path().join("dcmqrscp.cfg");
        std::fs::write(&settings_path, settings)?;
        let mut command = bound_command(&path.to_string_lossy(), None);
        command.arg("--config").arg(settings_path).env("TCP_NODELAY", "1");
        let service = Service::start("dcmqrscp", folder, command)?;
        let server = Self { service, port };
        wait_until("dcmqrscp to answer", Duration::from_secs(30), || {
            Ok(echoscu(Peer { ae_title: Self::AE_TITLE, port }).is_ok())
        })?;
        Ok(server)
    }

    /// Port on the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.service.log()
    }
}
