//! Tunnels go from connection to connection: what is said next, or was not answered, goes by
//! another one to the same address. Servers and proxies end connections after some number of
//! requests.

use super::*;

impl State {
    /// A connection is over. A tunnel goes on by another one; everybody else is lost.
    pub(super) fn cut(&mut self, id: u64, loss: &Loss) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if !client.outlives_connection() {
            return self.lost(id, loss);
        }
        let (target, address) = client.task.target(&self.shared.plan);
        if let Some(connection) = client.key.take() {
            self.disconnect(connection);
        }
        self.meter.counters.carriers += 1;
        self.operations.push(Operation::Connect { token: id, address: target.addresses[address] });
    }

    /// The other connection is there.
    pub(super) fn resume(&mut self, id: u64, connection: ConnectionKey) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let (target, _) = client.task.target(&self.shared.plan);
        let Some(lane) = &mut client.lane else { return };
        match lane.reconnected(&target, self.shared.plan.tls.as_ref()) {
            Ok(()) => {
                self.operations.push(Operation::Receive { connection });
                self.flush(id);
            }
            Err(loss) => self.lost(id, &loss),
        }
    }
}
