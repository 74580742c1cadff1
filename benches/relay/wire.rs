//! System calls of the load that no library offers: many datagrams in one send, and receives that leave the bytes out.
#![allow(unsafe_code, reason = "the one file of this bench that needs it")]

use std::{
    fs::File,
    io, mem,
    os::fd::{AsRawFd, RawFd},
    ptr,
};

use libc::{c_int, c_void, socklen_t};

/// Messages that one call moves at most.
const MESSAGES: usize = 64;

/// Sends one datagram `count` times on a connected socket, each by itself; tells how many were taken.
pub(crate) fn send_many(socket: RawFd, datagram: &[u8], count: usize) -> usize {
    let mut space = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
    // SAFETY: plain C structures of numbers and pointers; all zero is a valid value of each.
    let mut headers: [libc::mmsghdr; MESSAGES] = unsafe { mem::zeroed() };
    for header in &mut headers {
        header.msg_hdr.msg_iov = ptr::from_mut(&mut space);
        header.msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: each header points to one space, which is only read, and lives beyond the call.
    let sent =
        unsafe { libc::sendmmsg(socket, headers.as_mut_ptr(), count.min(MESSAGES) as _, libc::MSG_DONTWAIT as _) };
    usize::try_from(sent).unwrap_or(0)
}

/// Throws away what has come and tells how many bytes it was; no byte is copied.
pub(crate) fn discard_datagrams(socket: RawFd) -> u64 {
    let mut bytes = 0;
    loop {
        // SAFETY: plain C structures of numbers and pointers; all zero is valid: no name, no space, no control.
        let mut headers: [libc::mmsghdr; MESSAGES] = unsafe { mem::zeroed() };
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: the kernel writes into the headers only, which live beyond the call.
        let got = unsafe { libc::recvmmsg(socket, headers.as_mut_ptr(), MESSAGES as _, flags as _, ptr::null_mut()) };
        let got = usize::try_from(got).unwrap_or(0);
        bytes += headers.iter().take(got).map(|header| u64::from(header.msg_len)).sum::<u64>();
        if got < MESSAGES {
            return bytes;
        }
    }
}

/// Waits for bytes of a stream and throws away up to 1 MiB of them uncopied; 0 at the end.
pub(crate) fn discard_stream(socket: RawFd) -> io::Result<usize> {
    // SAFETY: with MSG_TRUNC a TCP socket throws the bytes away and writes nowhere.
    let got = unsafe { libc::recv(socket, ptr::null_mut(), 1 << 20, libc::MSG_TRUNC) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

/// Whether the kernel hands over datagrams joined at this socket.
pub(crate) fn join_received(socket: RawFd, on: bool) {
    let value = c_int::from(on);
    let from: *const c_void = ptr::from_ref(&value).cast();
    let length = mem::size_of::<c_int>() as socklen_t;
    // SAFETY: `value` is read within the call, at its own length.
    let done = unsafe { libc::setsockopt(socket, libc::SOL_UDP, libc::UDP_GRO, from, length) };
    assert_eq!(done, 0, "UDP_GRO: {}", io::Error::last_os_error());
}

/// Moves this thread into a network namespace.
pub(crate) fn enter(namespace: &File) {
    // SAFETY: changes only where this thread opens sockets from now on.
    let done = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(done, 0, "setns: {}", io::Error::last_os_error());
}
