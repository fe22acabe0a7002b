//! One datagram in flight: header, vector, address and bytes, in one stable box.

use super::address::SocketAddress;

/// Bytes whose address does not change until drop, so that the kernel may read them while they are owned
/// by an operation.
///
/// # Safety
/// `bytes` returns the same address and length on every call until `self` is dropped, also when `self` is
/// moved, and nobody frees or shrinks that memory meanwhile. (Concurrent writes by others are the
/// implementer's promise to exclude or to tolerate as torn data.)
pub unsafe trait StableBytes: Send {
    /// The bytes to send.
    fn bytes(&self) -> &[u8];
}

/// The memory of a `sendmsg` or `recvmsg`, owned by the operation until its terminal completion.
pub(crate) struct Message {
    header: libc::msghdr,
    iovec: libc::iovec,
    address: Option<SocketAddress>,
    received: Vec<u8>,
    /// Kept only for the kernel, which reads it through `iovec`.
    sent: Option<Box<dyn StableBytes>>,
}

// SAFETY: the raw pointers inside point at memory owned by the same box (or by `sent`, which is Send);
// whoever owns the message owns all of it.
unsafe impl Send for Message {}

impl Message {
    fn new(
        received: Vec<u8>,
        sent: Option<Box<dyn StableBytes>>,
        address: Option<SocketAddress>,
    ) -> Box<Self> {
        // SAFETY: msghdr and iovec are plain data (integers and pointers) for which all-zero is valid.
        let (header, iovec) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        Box::new(Message { header, iovec, address, received, sent })
    }

    /// Room for one datagram of at most `max_len` bytes and its source.
    pub(crate) fn receive(max_len: usize) -> Box<Self> {
        Message::new(Vec::with_capacity(max_len), None, Some(SocketAddress::empty()))
    }

    /// `data` for `addr`.
    pub(crate) fn send(data: Box<dyn StableBytes>, addr: Option<SocketAddress>) -> Box<Self> {
        Message::new(Vec::new(), Some(data), addr)
    }

    /// Points the header at the box's own parts. To be called before each use by the kernel, once the box
    /// has reached its place on the heap; moving the box afterwards moves none of them.
    pub(crate) fn header(self: &mut Box<Self>) -> *mut libc::msghdr {
        let this = &mut **self;
        match &this.sent {
            Some(data) => {
                let bytes = data.bytes();
                this.iovec.iov_base = bytes.as_ptr().cast_mut().cast();
                this.iovec.iov_len = bytes.len();
            }
            None => {
                this.iovec.iov_base = this.received.as_mut_ptr().cast();
                this.iovec.iov_len = this.received.capacity();
                if let Some(address) = &mut this.address {
                    address.reset_len();
                }
            }
        }
        if let Some(address) = &mut this.address {
            this.header.msg_namelen = address.len();
            this.header.msg_name = address.as_ptr().0.cast();
        }
        this.header.msg_iov = &raw mut this.iovec;
        this.header.msg_iovlen = 1;
        this.header.msg_flags = 0;
        &raw mut this.header
    }

    /// Gives back what was to be sent.
    pub(crate) fn sent(self) -> Option<Box<dyn StableBytes>> {
        self.sent
    }

    /// Takes out what the kernel received: bytes, source, flags.
    pub(crate) fn received(mut self, len: u32) -> (Vec<u8>, Option<SocketAddress>, i32) {
        let mut data = std::mem::take(&mut self.received);
        let len = (len as usize).min(data.capacity());
        // SAFETY: the completed receive initialised `len` bytes of this vector's own allocation, clamped to
        // its capacity (MSG_TRUNC may report the longer length of the datagram on the wire).
        unsafe { data.set_len(len) };
        let from = self.address.take().and_then(|mut address| {
            address.set_len(self.header.msg_namelen);
            (self.header.msg_namelen > 0).then_some(address)
        });
        (data, from, self.header.msg_flags)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::StableBytes;

    /// Something to send.
    pub(crate) struct Letter(pub(crate) Vec<u8>);

    // SAFETY: the vector is never changed, so its block keeps address and length until it is dropped.
    unsafe impl StableBytes for Letter {
        fn bytes(&self) -> &[u8] {
            &self.0
        }
    }
}
