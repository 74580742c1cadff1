//! Tests of the waiting room: order, fairness, deadlines, bounds, and that nobody is forgotten.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::*;
use crate::limit::{Claim, Permit, Permits};

/// Claims of all and of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Of {
    All,
    Client(u32),
}

/// A room before permits, as a door would have it.
#[derive(Clone)]
struct Scene {
    room: WaitingRoom<u32>,
    permits: Permits<Of>,
    max: u32,
    max_per_client: u32,
    tries: Arc<AtomicUsize>,
}

impl Scene {
    fn new(places: usize, max: u32, max_per_client: u32) -> Scene {
        let room = WaitingRoom::new(places);
        let permits = Permits::with_hook({
            let room = room.clone();
            move |keys: &[Of]| {
                for key in keys {
                    if let Of::Client(client) = key {
                        room.poke_where(|other| other == client);
                    }
                }
            }
        });
        Scene { room, permits, max, max_per_client, tries: Arc::default() }
    }

    fn try_acquire(&self, client: u32) -> Result<Permit<Of>, Unserved> {
        self.tries.fetch_add(1, Ordering::Relaxed);
        let one = Claim { key: Of::Client(client), max: Some(self.max_per_client) };
        let all = Claim { key: Of::All, max: Some(self.max) };
        self.permits.try_acquire(vec![one, all]).map_err(|full| match full {
            0 => Unserved::Client,
            _ => Unserved::Nobody,
        })
    }

    async fn wait(&self, mut place: Place<u32>, client: u32, deadline: Instant) -> Result<Permit<Of>, TooLong> {
        loop {
            let turn = place.turn(deadline).await?;
            match self.try_acquire(client) {
                Ok(permit) => {
                    turn.served();
                    return Ok(permit);
                }
                Err(why) => turn.unserved(why),
            }
        }
    }

    async fn acquire(&self, client: u32) -> Permit<Of> {
        let place = self.room.enter(client).unwrap();
        self.wait(place, client, far()).await.unwrap()
    }

    /// Enters now, waits elsewhere, and sends its name and permit when it is served.
    fn queue(&self, client: u32, name: u32, served: &mpsc::UnboundedSender<(u32, Permit<Of>)>) -> JoinHandle<()> {
        let place = self.room.enter(client).unwrap();
        let (scene, served) = (self.clone(), served.clone());
        tokio::spawn(async move {
            let permit = scene.wait(place, client, far()).await.unwrap();
            let _ = served.send((name, permit));
        })
    }

    fn is_sound(&self) -> bool {
        self.room.lock().is_sound()
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(86_400)
}

/// Who is served, one after the other; each gives its permit back before the next is.
async fn order(count: usize, served: &mut mpsc::UnboundedReceiver<(u32, Permit<Of>)>) -> Vec<u32> {
    let mut names = Vec::new();
    for _ in 0..count {
        let (name, permit) = timeout(Duration::from_secs(60), served.recv()).await.unwrap().unwrap();
        assert!(served.try_recv().is_err(), "one place, one at a time");
        names.push(name);
        drop(permit);
    }
    names
}

#[tokio::test(start_paused = true)]
async fn an_empty_room_is_walked_through_at_once() {
    let scene = Scene::new(1, 2, 2);
    let held = (scene.acquire(1).await, scene.acquire(1).await);
    assert_eq!((scene.room.waiting(), scene.permits.held(&Of::All)), (0, 2));
    drop(held);
    assert!(scene.is_sound());
}

#[tokio::test(start_paused = true)]
async fn those_of_one_client_are_served_in_the_order_in_which_they_came() {
    let scene = Scene::new(10, 1, 10);
    let (send, mut served) = mpsc::unbounded_channel();
    let held = scene.acquire(1).await;
    (0..5).for_each(|name| drop(scene.queue(1, name, &send)));
    assert_eq!(scene.room.waiting(), 5);
    drop(held);
    assert_eq!(order(5, &mut served).await, [0, 1, 2, 3, 4]);
    assert!(scene.is_sound() && scene.room.waiting() == 0);
}

#[tokio::test(start_paused = true)]
async fn clients_take_turns_however_many_wait_of_one() {
    let scene = Scene::new(100, 1, 10);
    let (send, mut served) = mpsc::unbounded_channel();
    let held = scene.acquire(1).await;
    (0..6).for_each(|name| drop(scene.queue(1, name, &send)));
    (20..22).for_each(|name| drop(scene.queue(2, name, &send)));
    (30..33).for_each(|name| drop(scene.queue(3, name, &send)));
    drop(held);
    assert_eq!(order(11, &mut served).await, [0, 20, 30, 1, 21, 31, 2, 32, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_does_not_overtake() {
    let scene = Scene::new(10, 1, 10);
    let (send, mut served) = mpsc::unbounded_channel();
    let held = scene.acquire(1).await;
    drop(scene.queue(1, 0, &send));
    tokio::task::yield_now().await;
    drop(held);
    // The place is free, and the one who waited has not run yet.
    drop(scene.queue(2, 1, &send));
    assert_eq!(order(2, &mut served).await, [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_client_at_its_maximum_stands_aside_and_is_served_when_it_frees_something() {
    let scene = Scene::new(10, 3, 1);
    let (send, mut served) = mpsc::unbounded_channel();
    let held = scene.acquire(1).await;
    (10..12).for_each(|name| drop(scene.queue(1, name, &send)));
    drop(scene.queue(2, 20, &send));
    let (name, two) = served.recv().await.unwrap();
    assert_eq!((name, scene.room.waiting()), (20, 2));
    let tries = scene.tries.load(Ordering::Relaxed);
    drop(two);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(served.try_recv().is_err());
    assert_eq!(scene.tries.load(Ordering::Relaxed), tries, "who stands aside is not woken for others");
    drop(held);
    assert_eq!(order(2, &mut served).await, [10, 11]);
}

#[tokio::test(start_paused = true)]
async fn who_stands_aside_keeps_its_place_before_later_ones() {
    let scene = Scene::new(10, 2, 1);
    let (send, mut served) = mpsc::unbounded_channel();
    let (one, two) = (scene.acquire(1).await, scene.acquire(2).await);
    drop(scene.queue(1, 10, &send));
    drop(scene.queue(3, 30, &send));
    tokio::time::sleep(Duration::from_millis(1)).await;
    drop(one);
    assert_eq!(served.recv().await.unwrap().0, 10);
    drop(two);
    assert_eq!(served.recv().await.unwrap().0, 30);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_does_not_come_by_the_deadline_is_told_then() {
    let scene = Scene::new(10, 1, 1);
    let held = scene.acquire(1).await;
    let start = Instant::now();
    let mut place = scene.room.enter(2).unwrap();
    place.turn(far()).await.unwrap().unserved(Unserved::Nobody);
    let result = scene.wait(place, 2, start + Duration::from_secs(60)).await;
    assert_eq!(result.unwrap_err(), TooLong);
    assert_eq!(start.elapsed().as_secs(), 60);
    assert_eq!(scene.room.waiting(), 0);
    drop(held);
    drop(scene.acquire(2).await);
}

#[tokio::test(start_paused = true)]
async fn no_more_wait_than_may_and_a_place_that_is_left_is_free_at_once() {
    let scene = Scene::new(2, 1, 1);
    let held = scene.acquire(1).await;
    let places = (scene.room.enter(2).unwrap(), scene.room.enter(2).unwrap());
    assert_eq!(scene.room.enter(3).unwrap_err(), RoomFull);
    drop(places.0);
    let third = scene.room.enter(3).unwrap();
    assert_eq!(scene.room.enter(4).unwrap_err(), RoomFull);
    scene.room.set_max(3);
    let fourth = scene.room.enter(4).unwrap();
    assert_eq!(scene.room.waiting(), 3);
    drop((places.1, third, fourth, held));
    assert!(scene.is_sound() && scene.room.waiting() == 0);
}

#[tokio::test(start_paused = true)]
async fn who_is_gone_holds_nobody_up() {
    let scene = Scene::new(10, 1, 10);
    let (send, mut served) = mpsc::unbounded_channel();
    let held = scene.acquire(1).await;
    let tasks: Vec<_> = (0..4).map(|name| scene.queue(name, name, &send)).collect();
    tokio::time::sleep(Duration::from_millis(1)).await;
    // The head goes while all rest; the next one goes after it was given the turn.
    tasks[0].abort();
    tokio::time::sleep(Duration::from_millis(1)).await;
    drop(held);
    tasks[1].abort();
    assert_eq!(order(2, &mut served).await, [2, 3]);
    assert!(scene.is_sound());
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_dropped_passes_on() {
    let scene = Scene::new(10, 1, 1);
    let mut first = scene.room.enter(1).unwrap();
    let mut second = scene.room.enter(2).unwrap();
    drop(first.turn(far()).await.unwrap());
    assert!(second.turn(far()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_is_freed_during_a_try_is_not_missed() {
    let room = WaitingRoom::new(10);
    let mut place = room.enter(1).unwrap();
    for poke in [None, Some(1)] {
        let turn = place.turn(far()).await.unwrap();
        match poke {
            None => room.poke(),
            Some(client) => room.poke_where(|other| *other == client),
        }
        turn.unserved(if poke.is_none() { Unserved::Nobody } else { Unserved::Client });
    }
    place.turn(far()).await.unwrap().unserved(Unserved::Nobody);
    assert_eq!(place.turn(Instant::now()).await.unwrap_err(), TooLong);
}

#[tokio::test(start_paused = true)]
async fn a_room_left_by_all_does_not_remember_that_nothing_was_to_be_had() {
    let room = WaitingRoom::new(10);
    let mut place = room.enter(1).unwrap();
    place.turn(far()).await.unwrap().unserved(Unserved::Nobody);
    drop(place);
    room.poke();
    assert!(room.enter(2).unwrap().turn(Instant::now()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_is_full_holds_up_nobody_on_another() {
    // Clients 1 and 2 on the listener `a`, which is full, and client 1 on `b`.
    let room = WaitingRoom::new(10);
    let mut places: Vec<_> = [("a", 1), ("a", 2), ("b", 1)].into_iter().map(|who| room.enter(who).unwrap()).collect();
    let mut third = places.pop().unwrap();
    for place in &mut places {
        place.turn(far()).await.unwrap().unserved(Unserved::Client);
    }
    third.turn(Instant::now()).await.unwrap().served();
    room.poke_where(|(listener, client)| *listener == "b" || *client == 9);
    assert!(places[0].turn(Instant::now()).await.is_err());
    room.poke_where(|(listener, _)| *listener == "a");
    places[0].turn(Instant::now()).await.unwrap().served();
    places[1].turn(Instant::now()).await.unwrap().served();
    assert!(room.lock().is_sound() && room.waiting() == 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_over_its_rate_tries_again_when_it_may_and_no_later() {
    let room = WaitingRoom::new(10);
    let start = Instant::now();
    let mut slow = room.enter(1).unwrap();
    let mut other = room.enter(2).unwrap();
    slow.turn(far()).await.unwrap().unserved(Unserved::ClientUntil(start + Duration::from_secs(5)));
    other.turn(far()).await.unwrap().served();
    slow.turn(far()).await.unwrap().served();
    assert_eq!(start.elapsed().as_secs(), 5);
    assert!(room.lock().is_sound() && room.waiting() == 0);
}

#[tokio::test(start_paused = true)]
async fn who_rests_until_a_time_is_the_first_to_try_then_and_wakes_the_others_when_it_goes() {
    let room = WaitingRoom::new(10);
    let start = Instant::now();
    let mut first = room.enter(1).unwrap();
    let mut second = room.enter(2).unwrap();
    let until = |seconds| Unserved::NobodyUntil(start + Duration::from_secs(seconds));
    first.turn(far()).await.unwrap().unserved(until(5));
    assert!(second.turn(start + Duration::from_secs(1)).await.is_err(), "all rest");
    first.turn(far()).await.unwrap().unserved(until(60));
    assert_eq!(start.elapsed().as_secs(), 5);
    drop(first);
    second.turn(Instant::now()).await.unwrap().served();
    assert!(room.lock().is_sound() && room.waiting() == 0);
    room.poke();
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn the_next_of_a_client_tries_when_the_one_that_stood_aside_is_gone() {
    let room = WaitingRoom::new(10);
    let mut first = room.enter(1).unwrap();
    let mut second = room.enter(1).unwrap();
    first.turn(far()).await.unwrap().unserved(Unserved::Client);
    drop(first);
    assert!(second.turn(Instant::now()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_all_are_served_and_nobody_is_forgotten() {
    let scene = Scene::new(10_000, 7, 3);
    let tasks: Vec<_> = (0..2000u32)
        .map(|number| {
            let scene = scene.clone();
            tokio::spawn(async move {
                let client = number % 13;
                if number % 11 == 0 {
                    // Some lose patience at once, some while they wait.
                    let place = scene.room.enter(client).unwrap();
                    let patience = Instant::now() + Duration::from_micros(u64::from(number % 5) * 100);
                    let _ = scene.wait(place, client, patience).await;
                    return;
                }
                let permit = scene.acquire(client).await;
                assert!(scene.permits.held(&Of::All) <= 7 && scene.permits.held(&Of::Client(client)) <= 3);
                tokio::task::yield_now().await;
                drop(permit);
            })
        })
        .collect();
    for task in tasks {
        timeout(Duration::from_secs(60), task).await.expect("somebody was forgotten").unwrap();
    }
    assert!(scene.is_sound() && scene.room.waiting() == 0 && scene.permits.keys() == 0);
}

#[tokio::test]
async fn into_a_full_room_comes_only_who_overtakes_nobody_and_may_not_stay() {
    let room = WaitingRoom::new(1);
    let mut held = room.enter(1).unwrap();
    assert!(held.may_stay());
    held.turn(Instant::now()).await.unwrap().unserved(Unserved::Client);
    assert_eq!(room.enter(1).unwrap_err(), RoomFull, "one of its own client waits before it");
    let mut other = room.enter(2).unwrap();
    assert!(!other.may_stay());
    assert_eq!(room.enter(3).unwrap_err(), RoomFull, "another one tries");
    other.turn(Instant::now()).await.unwrap().served();
    drop(other);
    room.poke();
    held.turn(Instant::now()).await.unwrap().unserved(Unserved::Nobody);
    assert_eq!(room.enter(2).unwrap_err(), RoomFull, "nothing is to be had by anybody");
}
