//! A list that mostly has one element.

use std::array;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::slice;
use std::vec;

/// A list that mostly has one element, which it holds itself: only more of them need memory of their own. For what every request has, such as its
/// one topic with one partition; elsewhere a `Vec` does.
#[derive(Clone)]
pub enum Few<T> {
    /// Exactly one element.
    One([T; 1]),
    /// Any number of elements.
    Many(Vec<T>),
}

impl<T> Few<T> {
    /// An empty list.
    pub const fn new() -> Self {
        Few::Many(Vec::new())
    }

    /// A list of this element.
    pub const fn one(element: T) -> Self {
        Few::One([element])
    }

    /// An empty list with room for so many elements.
    pub fn with_capacity(elements: usize) -> Self {
        Few::Many(if elements > 1 { Vec::with_capacity(elements) } else { Vec::new() })
    }

    /// Makes room for so many more elements.
    pub fn reserve(&mut self, more: usize) {
        if self.len() + more > 1 {
            let mut elements = std::mem::take(self).into_vec();
            elements.reserve(more);
            *self = Few::Many(elements);
        }
    }

    /// Appends an element.
    pub fn push(&mut self, element: T) {
        match self {
            Few::Many(elements) if elements.capacity() > 0 => elements.push(element),
            Few::Many(_) => *self = Few::one(element),
            Few::One(_) => {
                let mut elements = std::mem::take(self).into_vec();
                elements.push(element);
                *self = Few::Many(elements);
            }
        }
    }

    /// Removes the last element.
    pub fn pop(&mut self) -> Option<T> {
        match self {
            Few::Many(elements) => elements.pop(),
            Few::One(_) => std::mem::take(self).into_iter().next(),
        }
    }

    /// The elements as a `Vec`.
    pub fn into_vec(self) -> Vec<T> {
        match self {
            Few::One(one) => one.into(),
            Few::Many(elements) => elements,
        }
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Few::new()
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match self {
            Few::One(one) => one,
            Few::Many(elements) => elements,
        }
    }
}

impl<T> DerefMut for Few<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Few::One(one) => one,
            Few::Many(elements) => elements,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Few<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: PartialEq> PartialEq for Few<T> {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl<T: Eq> Eq for Few<T> {}

impl<T: PartialEq> PartialEq<Vec<T>> for Few<T> {
    fn eq(&self, other: &Vec<T>) -> bool {
        self[..] == other[..]
    }
}

impl<T: PartialEq, const N: usize> PartialEq<[T; N]> for Few<T> {
    fn eq(&self, other: &[T; N]) -> bool {
        self[..] == other[..]
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(elements: Vec<T>) -> Self {
        Few::Many(elements)
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut elements = elements.into_iter();
        let Some(first) = elements.next() else { return Few::new() };
        let Some(second) = elements.next() else { return Few::one(first) };
        let mut all = Vec::with_capacity(elements.size_hint().0.saturating_add(2));
        all.extend([first, second]);
        all.extend(elements);
        Few::Many(all)
    }
}

impl<T> Extend<T> for Few<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, elements: I) {
        elements.into_iter().for_each(|element| self.push(element));
    }
}

/// The elements of a [`Few`], by value.
#[derive(Debug)]
pub enum IntoIter<T> {
    /// Of [`Few::One`].
    One(array::IntoIter<T, 1>),
    /// Of [`Few::Many`].
    Many(vec::IntoIter<T>),
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        match self {
            IntoIter::One(one) => one.next(),
            IntoIter::Many(elements) => elements.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            IntoIter::One(one) => one.size_hint(),
            IntoIter::Many(elements) => elements.size_hint(),
        }
    }
}

impl<T> DoubleEndedIterator for IntoIter<T> {
    fn next_back(&mut self) -> Option<T> {
        match self {
            IntoIter::One(one) => one.next_back(),
            IntoIter::Many(elements) => elements.next_back(),
        }
    }
}

impl<T> ExactSizeIterator for IntoIter<T> {}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        match self {
            Few::One(one) => IntoIter::One(one.into_iter()),
            Few::Many(elements) => IntoIter::Many(elements.into_iter()),
        }
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;

    fn into_iter(self) -> slice::Iter<'a, T> {
        self.iter()
    }
}

impl<'a, T> IntoIterator for &'a mut Few<T> {
    type Item = &'a mut T;
    type IntoIter = slice::IterMut<'a, T>;

    fn into_iter(self) -> slice::IterMut<'a, T> {
        self.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_list_that_went_in_however_it_was_made() {
        for len in 0..5 {
            let list: Vec<usize> = (0..len).collect();
            let mut pushed = Few::new();
            list.iter().for_each(|element| pushed.push(*element));
            let mut extended = Few::with_capacity(len);
            extended.extend(list.iter().copied());
            let mut reserved: Few<_> = list.iter().copied().take(1).collect();
            reserved.reserve(len.saturating_sub(1));
            reserved.extend(list.iter().copied().skip(1));
            for few in [pushed, extended, reserved, list.iter().copied().collect(), Few::from(list.clone())] {
                assert_eq!(few, Few::from(list.clone()));
                assert_eq!(few, list);
                assert_eq!(few.len(), len);
                assert_eq!(few.clone().into_vec(), list);
                assert_eq!(few.clone().into_iter().len(), len);
                assert!(few.clone().into_iter().rev().eq(list.iter().rev().copied()));
                assert!(few.clone().into_iter().eq(list.iter().copied()));
                let mut popped = few;
                assert!(std::iter::from_fn(|| popped.pop()).eq(list.iter().rev().copied()));
                assert!(popped.is_empty());
            }
        }
    }

    #[test]
    fn one_element_needs_no_memory_of_its_own() {
        let mut pushed = Few::with_capacity(1);
        pushed.push("one");
        for few in [pushed, Few::one("one"), ["one"].into_iter().collect()] {
            assert!(matches!(few, Few::One(_)), "{few:?}");
        }
    }
}
