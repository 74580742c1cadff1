//! Names at the edge: what does not pass must hurt nothing else, and nobody waits for it.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use super::{
    Ascp, LISTENERS, folder, is_here, one_node, root,
    tree::{self, Tree, assert_same, file},
    up,
};
use crate::support::noise;

#[tokio::test(flavor = "multi_thread")]
async fn a_path_of_three_kilobytes_comes_down() {
    if !is_here() {
        return;
    }
    // Its request line has nine; uploads of such a path end in the client itself.
    let sandbox = one_node().start().await;
    let name = vec!["漢".repeat(80); 12].join("/");
    let long = Tree::from([file(&name, noise(1000, 1))]);
    tree::write(&root(&sandbox, 1).join("t"), &long);
    for listener in LISTENERS {
        let back = folder(&sandbox, listener);
        Ascp::get(&sandbox, listener, &["t"], &back).await.run().await.must_be_ok(listener);
        assert_same(&tree::read(&back.join("t")), &long, listener);
    }
    assert!(sandbox.seen(1).iter().any(|s| s.head.len() > 8500));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trailing_blank_goes_up_and_comes_down_with_its_name() {
    if !is_here() {
        return;
    }
    let sandbox = one_node().start().await;
    let blank = Tree::from([file("a", noise(10, 1)), file("b ", noise(20, 2)), file("c\t", noise(30, 3))]);
    for listener in LISTENERS {
        let source = folder(&sandbox, "source").join(listener);
        tree::write(&source, &blank);
        Ascp::put(&sandbox, listener, &[&source]).await.run().await.must_be_ok(listener);
        assert_same(&tree::read(&up(&sandbox, 1, listener)), &blank, listener);

        let back = folder(&sandbox, &format!("{listener}-back"));
        Ascp::get(&sandbox, listener, &[&format!("up/{listener}")], &back).await.run().await.must_be_ok(listener);
        assert_same(&tree::read(&back.join(listener)), &blank, listener);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_in_a_name_costs_its_session_at_most_and_never_reaches_a_node() {
    if !is_here() {
        return;
    }
    let sandbox = one_node().start().await;
    for listener in LISTENERS {
        for (i, control) in
            [&b"\r"[..], b"\x07", b"\x7f", b"\x1b", b"\n", b"\r\n", b"\nx-injected: 1"].iter().enumerate()
        {
            for first in [true, false] {
                let what = format!("{listener}, {:?}, first {first}", OsStr::from_bytes(control));
                let bad = [if first { b"a" } else { b"m" }, *control, b"z"].concat();
                let source = folder(&sandbox, "source").join(format!("{listener}-{i}-{first}"));
                tree::write(&source, &Tree::from([file("g", vec![1]), file("h", vec![2]), file(&bad, vec![3])]));
                let report = Ascp::put(&sandbox, listener, &[&source]).await.run().await;
                // Out of a folder the client sends a name with LF as the name before it, and is content.
                let is_error = !control.contains(&b'\n');
                assert!(report.code == Some(1) || !is_error && report.code == Some(0), "{what}: {report:?}");
            }
        }
        // Whoever comes next is served.
        let good = folder(&sandbox, "source").join("good");
        tree::write(&good, &tree::plain());
        Ascp::put(&sandbox, listener, &[&good]).await.run().await.must_be_ok(listener);
    }
    for seen in sandbox.seen(1) {
        let lines = seen.head.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l));
        let sound = |line: &[u8]| !line.iter().any(|b| b.is_ascii_control());
        assert!(lines.clone().all(sound), "{:?}", OsStr::from_bytes(&seen.head));
        assert!(lines.clone().all(|l| !l.starts_with(b"x-injected")), "{:?}", OsStr::from_bytes(&seen.head));
    }
    let metrics = sandbox.metrics().await;
    assert_eq!(metrics.sum("sessions_active", &[]), 0.0);
}
