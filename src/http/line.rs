//! The connection that a request came over, for who must end it although its reader does not read, or know whether it is still there.
use actix_web::{dev::Extensions, rt::net::TcpStream};
use socket2::{SockRef, Socket};
use std::{any::Any, io::ErrorKind, mem::MaybeUninit, net::Shutdown, sync::Arc};
use tracing::debug;

/// A hold on a connection that keeps it from nothing.
#[derive(Clone)]
pub struct Line(Arc<Socket>);

impl Line {
    /// Whether the other side has ended the connection, also by no more than saying that it sends nothing further. A side that vanished
    /// without a word is found by nobody.
    pub fn has_ended(&self) -> bool {
        match self.0.peek(&mut [MaybeUninit::uninit()]) {
            Ok(bytes) => bytes == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    /// Ends the connection. What its reader has not taken from this machine by now may still come to them, and nothing else.
    pub fn end(&self) {
        if let Err(error) = self.0.shutdown(Shutdown::Both) {
            debug!(%error, "a connection had ended by itself");
        }
    }
}

/// To be called with each new connection: its requests find their [`Line`] in its data.
pub fn keep(connection: &dyn Any, data: &mut Extensions) {
    let socket = connection.downcast_ref::<TcpStream>().and_then(|stream| SockRef::from(stream).try_clone().ok());
    if let Some(socket) = socket {
        data.insert(Line(Arc::new(socket)));
    }
}
