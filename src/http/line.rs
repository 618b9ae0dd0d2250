//! The connection that a request came over, for who must end it although its reader does not read.
use actix_web::{dev::Extensions, rt::net::TcpStream};
use socket2::{SockRef, Socket};
use std::{any::Any, net::Shutdown, sync::Arc};
use tracing::debug;

/// A hold on a connection that keeps it from nothing.
#[derive(Clone)]
pub struct Line(Arc<Socket>);

impl Line {
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
