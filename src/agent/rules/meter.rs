//! Makes an expression pay for its work while it runs. The evaluator has no cost limit of its own, so the syntax tree is rewritten:
//! whatever may be large is handed to a function that charges a budget, before it is copied, compared, searched or gone through.
use super::budget::{ADD, COST, DIV, EACH, HEAD, KEY, MATCHES, MOD, MUL, SUB};
use super::patterns::Patterns;
use super::syntax::Flaw;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

/// Nodes of an expression, which is about how many steps one run of it takes, loops aside.
pub(super) fn weight(expr: &IdedExpr) -> u64 {
    let inner: u64 = match &expr.expr {
        Expr::Call(call) => {
            call.target.iter().map(|target| weight(target)).sum::<u64>() + call.args.iter().map(weight).sum::<u64>()
        }
        Expr::Select(select) => weight(&select.operand),
        Expr::List(list) => list.elements.iter().map(weight).sum(),
        Expr::Map(map) => map.entries.iter().map(|entry| entry_weight(&entry.expr)).sum(),
        Expr::Comprehension(loops) => weight(&loops.iter_range) + weight(&loops.accu_init) + weight(&loops.result) + 1,
        _ => 0,
    };
    inner + 1
}

fn entry_weight(entry: &EntryExpr) -> u64 {
    match entry {
        EntryExpr::MapEntry(entry) => weight(&entry.key) + weight(&entry.value),
        EntryExpr::StructField(field) => weight(&field.value),
    }
}

/// Rewrites `expr` so that running it charges for its work, and moves its regular expressions into `patterns`.
pub(super) struct Meter<'p> {
    pub patterns: &'p mut Patterns,
    /// Where each node was written, for errors.
    pub offset: &'p dyn Fn(u64) -> usize,
}

impl Meter<'_> {
    pub fn rewrite(&mut self, expr: IdedExpr) -> Result<IdedExpr, Flaw> {
        let id = expr.id;
        let rewritten = match expr.expr {
            Expr::Call(call) => return self.call(id, call),
            Expr::Comprehension(loops) => Expr::Comprehension(Box::new(self.comprehension(*loops)?)),
            Expr::Select(mut select) => {
                select.operand = Box::new(self.rewrite(*select.operand)?);
                Expr::Select(select)
            }
            Expr::List(mut list) => {
                list.elements = self.charged_all(list.elements)?;
                Expr::List(list)
            }
            Expr::Map(mut map) => {
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                        entry.key = self.charged(std::mem::take(&mut entry.key))?;
                        entry.value = self.charged(std::mem::take(&mut entry.value))?;
                    }
                }
                Expr::Map(map)
            }
            other => other,
        };
        Ok(IdedExpr { id, expr: rewritten })
    }

    fn call(&mut self, id: u64, mut call: CallExpr) -> Result<IdedExpr, Flaw> {
        if matches!(call.args.first().map(|first| &first.expr), Some(Expr::Ident(name)) if name.starts_with('@'))
            && call.target.is_none()
        {
            // The step of a macro's own loop: the evaluator runs it in place only while it keeps this shape.
            call.args = self.rewrite_all(call.args)?;
            return Ok(node(id, call));
        }
        match call.func_name.as_str() {
            operators::LOGICAL_AND
            | operators::LOGICAL_OR
            | operators::LOGICAL_NOT
            | operators::CONDITIONAL
            | operators::NOT_STRICTLY_FALSE => {
                call.args = self.rewrite_all(call.args)?;
            }
            operators::INDEX => call.args = self.index_args(call.args)?,
            operators::OPT_INDEX | operators::OPT_SELECT => {
                call.args = self.index_args(call.args)?;
                return Ok(wrap(COST, node(id, call)));
            }
            operators::ADD => return self.arithmetic(id, ADD, call),
            operators::SUBSTRACT => return self.arithmetic(id, SUB, call),
            operators::MULTIPLY => return self.arithmetic(id, MUL, call),
            operators::DIVIDE => return self.arithmetic(id, DIV, call),
            operators::MODULO => return self.arithmetic(id, MOD, call),
            "matches" => return self.matches(id, call),
            "size" => {
                call.args = self.rewrite_all(call.args)?.into_iter().map(|arg| wrap(HEAD, arg)).collect();
                call.target = self.target(call.target, HEAD)?;
            }
            _ => {
                call.args = self.charged_all(call.args)?;
                call.target = self.target(call.target, COST)?;
            }
        }
        Ok(node(id, call))
    }

    fn target(&mut self, target: Option<Box<IdedExpr>>, function: &str) -> Result<Option<Box<IdedExpr>>, Flaw> {
        match target {
            // A name space rather than a value: optional.of(…).
            Some(target) if target.expr == Expr::Ident("optional".into()) => Ok(Some(target)),
            Some(target) => Ok(Some(Box::new(wrap(function, self.rewrite(*target)?)))),
            None => Ok(None),
        }
    }

    fn arithmetic(&mut self, id: u64, function: &str, call: CallExpr) -> Result<IdedExpr, Flaw> {
        let args = self.rewrite_all(call.args)?;
        Ok(node(id, CallExpr { func_name: function.into(), target: None, args }))
    }

    fn index_args(&mut self, args: Vec<IdedExpr>) -> Result<Vec<IdedExpr>, Flaw> {
        let mut args = self.rewrite_all(args)?;
        if let Some(key) = args.pop() {
            let harmless = matches!(key.expr, Expr::Literal(LiteralValue::String(_) | LiteralValue::Int(_)));
            args.push(if harmless { key } else { wrap(KEY, key) });
        }
        Ok(args)
    }

    fn matches(&mut self, id: u64, call: CallExpr) -> Result<IdedExpr, Flaw> {
        let mut operands: Vec<IdedExpr> = call.target.map(|target| *target).into_iter().chain(call.args).collect();
        let pattern = operands.pop().unwrap_or_default();
        let at = (self.offset)(pattern.id);
        let Expr::Literal(LiteralValue::String(text)) = &pattern.expr else {
            return Err(Flaw::new(at, "the pattern of matches() must be written out as a text"));
        };
        let number = self.patterns.add(text.inner()).map_err(|detail| Flaw::new(at, detail))?;
        let number = IdedExpr { id: pattern.id, expr: Expr::Literal(LiteralValue::Int(number.into())) };
        let mut args = self.rewrite_all(operands)?;
        args.push(number);
        Ok(node(id, CallExpr { func_name: MATCHES.into(), target: None, args }))
    }

    /// What is gone through pays beforehand for every round: the steps of the body, and the copy of each item that it is given.
    fn comprehension(&mut self, loops: ComprehensionExpr) -> Result<ComprehensionExpr, Flaw> {
        let round = weight(&loops.loop_cond) + weight(&loops.loop_step);
        let round = i64::try_from(round).unwrap_or(i64::MAX);
        let mut iter_range = wrap(EACH, self.rewrite(loops.iter_range)?);
        if let Expr::Call(call) = &mut iter_range.expr {
            call.args.push(IdedExpr { id: iter_range.id, expr: Expr::Literal(LiteralValue::Int(round.into())) });
        }
        Ok(ComprehensionExpr {
            iter_range,
            accu_init: self.charged(loops.accu_init)?,
            loop_cond: self.rewrite(loops.loop_cond)?,
            loop_step: self.rewrite(loops.loop_step)?,
            result: self.rewrite(loops.result)?,
            ..loops
        })
    }

    fn rewrite_all(&mut self, exprs: Vec<IdedExpr>) -> Result<Vec<IdedExpr>, Flaw> {
        exprs.into_iter().map(|expr| self.rewrite(expr)).collect()
    }

    fn charged(&mut self, expr: IdedExpr) -> Result<IdedExpr, Flaw> {
        let expr = self.rewrite(expr)?;
        Ok(if matches!(expr.expr, Expr::Literal(_)) { expr } else { wrap(COST, expr) })
    }

    fn charged_all(&mut self, exprs: Vec<IdedExpr>) -> Result<Vec<IdedExpr>, Flaw> {
        exprs.into_iter().map(|expr| self.charged(expr)).collect()
    }
}

fn node(id: u64, call: CallExpr) -> IdedExpr {
    IdedExpr { id, expr: Expr::Call(call) }
}

fn wrap(function: &str, expr: IdedExpr) -> IdedExpr {
    node(expr.id, CallExpr { func_name: function.into(), target: None, args: vec![expr] })
}
