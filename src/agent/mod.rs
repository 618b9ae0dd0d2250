pub mod insight;
