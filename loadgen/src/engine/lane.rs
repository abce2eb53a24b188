//! What lies between a client's RTMP and its socket: TLS, the HTTP of a tunnel, both, or nothing.
//! A tunnel outlives its connections: proxies and servers end them after some number of requests.
//!
//! ```text
//!   RTMP bytes -> [requests of a tunnel] -> [TLS] -> socket
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use relay::session::{TunnelClient, TunnelSettings};
use relay::tls::{ClientTls, Layer, SealBuffers};

use super::task::Loss;
use crate::target::Target;

/// The lane of one connection.
#[derive(Debug)]
pub(super) struct Lane {
    tls: Option<Box<Layer>>,
    tunnel: Option<Box<TunnelClient>>,
    /// The request that the last connection left unanswered, to be made again on this one.
    again: Vec<Bytes>,
    buffers: SealBuffers,
    /// Plaintext of what came last; kept to be used again.
    plain: Vec<u8>,
    /// When somebody will look at it, unless something happens before.
    pub(super) watched: Option<Duration>,
}

impl Lane {
    /// A lane to `target`; `None` when RTMP goes over TCP as it is.
    pub(super) fn new(
        target: &Target,
        tls: Option<&ClientTls>,
        poll: Option<Duration>,
        now: Duration,
    ) -> Result<Option<Self>, Loss> {
        let scheme = target.scheme;
        let tls = layer(target, tls)?;
        let tunnel = scheme.is_tunnel().then(|| {
            let mut settings = TunnelSettings::new(target.authority().to_owned());
            if let Some(poll) = poll {
                settings.poll_min = poll;
                settings.poll_max = settings.poll_max.max(poll);
            }
            Box::new(TunnelClient::new(settings, now))
        });
        if tls.is_none() && tunnel.is_none() {
            return Ok(None);
        }
        let buffers = SealBuffers::default();
        let (again, plain) = (Vec::new(), Vec::new());
        Ok(Some(Self { tls, tunnel, again, buffers, plain, watched: None }))
    }

    /// Its connection is over. Whether another one can take its place.
    pub(super) fn outlives_connection(&mut self) -> bool {
        self.tunnel.as_mut().is_some_and(|tunnel| tunnel.outlives_connection())
    }

    /// Goes on by another connection to the same target.
    pub(super) fn reconnected(
        &mut self,
        target: &Target,
        tls: Option<&ClientTls>,
    ) -> Result<(), Loss> {
        self.tls = layer(target, tls)?;
        self.watched = None;
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.reconnected();
            self.again = tunnel.repeat_request().unwrap_or_default();
        }
        Ok(())
    }

    /// Whether the server has ended the connection of a session that goes on.
    pub(super) fn needs_connection(&self) -> bool {
        self.tunnel.as_ref().is_some_and(|tunnel| tunnel.needs_connection())
    }

    /// Takes RTMP bytes, if they have to wait for a request; else gives them back.
    pub(super) fn push(&mut self, bytes: Bytes) -> Option<Bytes> {
        let Some(tunnel) = &mut self.tunnel else { return Some(bytes) };
        tunnel.push(bytes);
        None
    }

    /// RTMP bytes that wait for a request.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.tunnel.as_ref().map_or(0, |tunnel| tunnel.waiting_bytes())
    }

    /// What is to be sent next, made of what waits in `outbox`. Empty when nothing is.
    pub(super) fn next_batch(
        &mut self,
        outbox: &mut VecDeque<Bytes>,
        now: Duration,
    ) -> Result<Vec<Bytes>, Loss> {
        if let Some(tls) = &mut self.tls
            && tls.established().is_none()
        {
            return Ok(tls.take_output().into_iter().collect());
        }
        let plain: Vec<Bytes> = match &mut self.tunnel {
            Some(tunnel) => {
                tunnel.check_deadline(now).map_err(|error| lost("tunnel", &error))?;
                match std::mem::take(&mut self.again) {
                    again if again.is_empty() => tunnel.take_request(now).unwrap_or_default(),
                    again => again,
                }
            }
            None => outbox.drain(..).collect(),
        };
        let Some(tls) = &mut self.tls else { return Ok(plain) };
        if plain.is_empty() {
            return Ok(tls.take_output().into_iter().collect());
        }
        let sealed = tls.seal(&plain, &self.buffers).map_err(|error| lost("tls", &error))?;
        Ok(vec![sealed])
    }

    /// Opens what came: the RTMP bytes in it.
    pub(super) fn receive(&mut self, bytes: &[u8], now: Duration) -> Result<Vec<u8>, Loss> {
        let mut input = bytes;
        if let Some(tls) = &mut self.tls {
            self.plain.clear();
            tls.receive(bytes, &mut self.plain).map_err(|error| lost("tls", &error))?;
            input = &self.plain;
        }
        let Some(tunnel) = &mut self.tunnel else { return Ok(input.to_vec()) };
        let mut rtmp = Vec::new();
        while let Some(piece) =
            tunnel.receive(&mut input, now).map_err(|error| lost("tunnel", &error))?
        {
            rtmp.extend_from_slice(piece);
        }
        Ok(rtmp)
    }

    /// The client says goodbye.
    pub(super) fn finish(&mut self) {
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.finish();
        }
    }

    /// Whether nothing is owed to the server.
    pub(super) fn is_silent(&self) -> bool {
        self.tunnel.as_ref().is_none_or(|tunnel| tunnel.is_closed())
    }

    /// When something may be to be sent although nothing happens.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.tunnel.as_ref()?.next_due()
    }

    /// Requests that could bring something, and those that brought nothing.
    pub(super) fn polls(&self) -> (u64, u64) {
        self.tunnel.as_ref().map_or((0, 0), |tunnel| tunnel.polls())
    }
}

fn layer(target: &Target, tls: Option<&ClientTls>) -> Result<Option<Box<Layer>>, Loss> {
    let Some(tls) = tls.filter(|_| target.scheme.is_tls()) else { return Ok(None) };
    let layer = tls.connect(target.host()).map_err(|error| lost("tls", &error))?;
    Ok(Some(Box::new(layer)))
}

fn lost(cause: &str, error: &dyn std::error::Error) -> Loss {
    Loss { cause: cause.to_owned(), sentence: error.to_string() }
}
