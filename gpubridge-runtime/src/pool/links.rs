//! Intrusive doubly linked lists over a table, linked by `u32` index.
//!
//! Each list is a ring through a sentinel entry of the same table, so linking and unlinking have no branch to
//! mispredict: on the pool's hot path that is worth more than the memory of the sentinels.

/// One entry's place in one list. "Newer" is the side of the sentinel where entries are added.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub newer: u32,
    pub older: u32,
}

impl Link {
    /// The link of a sentinel or of an entry in no list: a ring of one.
    pub const fn alone(index: u32) -> Self {
        Self { newer: index, older: index }
    }
}

/// A table entry with a link for the list family `L` (a marker type).
pub trait Linked<L> {
    fn link(&mut self) -> &mut Link;
}

/// Adds `index` to the list of `sentinel` as its newest entry.
#[inline]
pub fn push_newest<L, T: Linked<L>>(table: &mut [T], sentinel: u32, index: u32) {
    let older = std::mem::replace(&mut table[sentinel as usize].link().older, index);
    *table[index as usize].link() = Link { newer: sentinel, older };
    table[older as usize].link().newer = index;
}

/// Takes `index` out of the list that it is in.
#[inline]
pub fn unlink<L, T: Linked<L>>(table: &mut [T], index: u32) {
    let Link { newer, older } = *table[index as usize].link();
    table[newer as usize].link().older = older;
    table[older as usize].link().newer = newer;
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Any;

    impl Linked<Any> for Link {
        fn link(&mut self) -> &mut Link {
            self
        }
    }

    fn newest_to_oldest(table: &[Link], sentinel: u32) -> Vec<u32> {
        std::iter::successors(Some(table[sentinel as usize].older), |&at| Some(table[at as usize].older))
            .take_while(|&at| at != sentinel)
            .collect()
    }

    #[test]
    fn entries_come_out_in_the_order_of_their_age_from_any_place() {
        let mut table: Vec<Link> = (0..6).map(Link::alone).collect();
        for index in 1..6 {
            push_newest::<Any, _>(&mut table, 0, index);
        }
        assert_eq!(newest_to_oldest(&table, 0), [5, 4, 3, 2, 1]);
        for (index, rest) in [(3, vec![5, 4, 2, 1]), (5, vec![4, 2, 1]), (1, vec![4, 2]), (4, vec![2]), (2, vec![])] {
            unlink::<Any, _>(&mut table, index);
            assert_eq!(newest_to_oldest(&table, 0), rest);
        }
    }
}
