//! A way to a server on loopback that can be shut.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Clone, Default)]
pub(crate) struct Door(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    is_shut: bool,
    through: Vec<TcpStream>,
}

impl Door {
    /// The door, and the address that leads through it.
    pub(crate) fn before(url: &str) -> Result<(Door, String), Box<dyn Error>> {
        let (user, (host, port), database) = parts(url).ok_or_else(|| {
            format!("--redis is `{}`: must be redis://[user:password@]127.0.0.1[:port][/db]", without_password(url))
        })?;
        // Whether somebody is there at all.
        TcpStream::connect((host, port)).map_err(|error| format!("no Redis server at {host}:{port}: {error}"))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let through = format!("redis://{user}{}{database}", listener.local_addr()?);
        let door = Door::default();
        let (keeper, host) = (door.clone(), host.to_owned());
        std::thread::spawn(move || {
            for inner in listener.incoming().map_while(Result::ok) {
                // What cannot be led on is closed, as a server that is gone would.
                let _ = keeper.lead(inner, (&host, port));
            }
        });
        Ok((door, through))
    }

    pub(crate) fn open(&self) {
        self.inside().is_shut = false;
    }

    /// Cuts all connections, and takes no new ones.
    pub(crate) fn shut(&self) {
        let mut inside = self.inside();
        inside.is_shut = true;
        for stream in inside.through.drain(..) {
            // It may have been closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn lead(&self, inner: TcpStream, to: (&str, u16)) -> io::Result<()> {
        let mut inside = self.inside();
        if inside.is_shut {
            return Ok(());
        }
        let outer = TcpStream::connect(to)?;
        inner.set_nodelay(true)?;
        outer.set_nodelay(true)?;
        for (from, to) in [(&inner, &outer), (&outer, &inner)] {
            let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
            std::thread::spawn(move || {
                // However it ends: neither direction is of use without the other.
                let _ = io::copy(&mut from, &mut to);
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
        inside.through.extend([inner, outer]);
        Ok(())
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// User and password with their `@`, host and port, database with its `/`.
fn parts(url: &str) -> Option<(&str, (&str, u16), &str)> {
    let rest = url.strip_prefix("redis://")?;
    let (user, rest) = rest.split_at(rest.rfind('@').map_or(0, |at| at + 1));
    let (address, database) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match address.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (address, 6379),
    };
    matches!(host, "127.0.0.1" | "localhost").then_some((user, (host, port), database))
}

fn without_password(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, address)) => format!("…@{address}"),
        None => url.to_owned(),
    }
}
