//! The three system calls that no library offers: socket options by number, the drop counter, and `recvmmsg`.
#![expect(unsafe_code, reason = "system calls; the one file of this folder that needs it")]

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use libc::{c_int, c_void, socklen_t};

use super::batch::MESSAGES;

/// Room for one message, in bytes: no UDP message is longer, not even one joined by the kernel.
pub(super) const ROOM: usize = 64 * 1024;
/// Option of the socket level that tells its memory counters (linux/socket.h; not in libc).
const SO_MEMINFO: c_int = 55;
/// Counters the kernel knows at least (linux/sock_diag.h), and where among them the drops stand.
const MEMORY_COUNTERS: usize = 9;
const DROPS: usize = 8;

/// A socket address as the kernel writes it; IPv6, the longer one, takes 28 bytes.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Name(pub(super) [u8; 28]);

/// Control messages as the kernel writes them.
///
/// The most that is asked for is packet info, two traffic classes and a segment size: 40 + 24 + 24 + 24 bytes.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control(pub(super) [u8; 128]);

/// What of each room was filled, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Filled {
    pub(super) data: usize,
    pub(super) name: usize,
    pub(super) control: usize,
    /// `MSG_TRUNC` and its like.
    pub(super) flags: c_int,
}

/// Sets an option whose value is a number.
pub(super) fn set_option(socket: BorrowedFd<'_>, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    let length = mem::size_of::<c_int>() as socklen_t;
    // SAFETY: the descriptor is open as long as it is borrowed; `value` is read within the call, at its own length.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, ptr::from_ref(&value).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Datagrams that the kernel threw away at this socket since it was opened; the number wraps around.
pub(super) fn drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut counters = [0u32; MEMORY_COUNTERS];
    let mut length = mem::size_of_val(&counters) as socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, the size of `counters`, where any bits are numbers.
    let done = unsafe {
        let to: *mut c_void = counters.as_mut_ptr().cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_MEMINFO, to, &raw mut length)
    };
    if done == 0 { Ok(counters[DROPS]) } else { Err(io::Error::last_os_error()) }
}

/// Receives as many messages as there are, at most [`MESSAGES`] and one for each [`ROOM`] of `data`; never waits.
///
/// Returns how many came; the first so many of `names`, `controls` and `filled` tell about them.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    data: &mut [u8],
    names: &mut [Name; MESSAGES],
    controls: &mut [Control; MESSAGES],
    filled: &mut [Filled; MESSAGES],
) -> io::Result<usize> {
    let mut spaces = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; MESSAGES];
    // SAFETY: plain C structures of numbers and pointers; all zero is a valid value of each.
    let mut headers: [libc::mmsghdr; MESSAGES] = unsafe { mem::zeroed() };
    let mut rooms = 0;
    for ((((header, space), data), name), control) in
        headers.iter_mut().zip(&mut spaces).zip(data.chunks_exact_mut(ROOM)).zip(names).zip(controls)
    {
        *space = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
        let header = &mut header.msg_hdr;
        header.msg_name = name.0.as_mut_ptr().cast();
        header.msg_namelen = name.0.len() as socklen_t;
        header.msg_iov = ptr::from_mut(space);
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len() as _;
        rooms += 1;
    }
    // SAFETY: the first `rooms` headers point to one space, name and control buffer each, all of them distinct,
    // as long as said, and alive and otherwise untouched until after the call; any bytes may be written there.
    let received = unsafe {
        libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), rooms, libc::MSG_DONTWAIT as _, ptr::null_mut())
    };
    let count = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    for (filled, header) in filled.iter_mut().zip(&headers).take(count) {
        *filled = Filled {
            data: header.msg_len as usize,
            name: header.msg_hdr.msg_namelen as usize,
            control: header.msg_hdr.msg_controllen as _,
            flags: header.msg_hdr.msg_flags,
        };
    }
    Ok(count)
}
