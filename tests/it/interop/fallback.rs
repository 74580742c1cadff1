//! The client that tries SSH first and falls back by itself.

use super::{Ascp, LISTENERS, folder, is_here, one_node, refusing, root, source, up};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_ssh_port_refuses_falls_back_by_itself() {
    if !is_here() {
        return;
    }
    let sandbox = one_node().start().await;
    let ssh = refusing(0).unwrap();
    let port = ssh.local_addr().unwrap().port();
    std::fs::write(root(&sandbox, 1).join("down"), b"down").unwrap();
    let path = source(&sandbox, "up", b"up");
    for listener in LISTENERS {
        let put = Ascp::put(&sandbox, listener, &[&path]).await.after_ssh(port);
        put.run().await.must_be_ok(listener);
        assert_eq!(std::fs::read(up(&sandbox, 1, "up")).unwrap(), b"up");
        let back = folder(&sandbox, listener);
        let get = Ascp::get(&sandbox, listener, &["down"], &back).await.after_ssh(port);
        get.run().await.must_be_ok(listener);
        assert_eq!(std::fs::read(back.join("down")).unwrap(), b"down");
    }
}
