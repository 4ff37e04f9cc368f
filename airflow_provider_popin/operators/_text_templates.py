"""Templates that give text in every Dag.

A Dag with ``render_template_as_native_obj`` reads what a template gives as a Python literal: a phone number
loses its ``+`` and is another person's, the lead ids ``1_000`` and ``1000`` are one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from jinja2.nativetypes import NativeEnvironment

try:
    from airflow.sdk.definitions.context import render_template_to_string
except ImportError:  # Airflow 2
    from airflow.utils.helpers import render_template_to_string  # type: ignore[no-redef]

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import BaseOperator

    _Operator = BaseOperator
else:
    _Operator = object


class TextTemplates(_Operator):
    """Render the template fields of an operator as text; objects from XCom stay what they are.

    To stand before ``BaseOperator`` among the bases.
    """

    def renders_as_text(self, field: str) -> bool:
        """Whether the templates of this field give text, whatever the Dag says.

        :param field: one of ``template_fields``
        """
        return True

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Any,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
    ) -> None:
        fields = list(template_fields)
        as_text = [field for field in fields if parent is self and self.renders_as_text(field)]
        others = [field for field in fields if field not in as_text]
        super()._do_render_template_fields(parent, others, context, jinja_env, seen_oids)
        if isinstance(jinja_env, NativeEnvironment) and (dag := self.get_dag()) is not None:
            jinja_env = dag.get_template_env(force_sandboxed=True)
        super()._do_render_template_fields(parent, as_text, context, jinja_env, seen_oids)

    def _render(self, template: jinja2.Template, context: Any, dag: Any = None) -> Any:
        if isinstance(template.environment, NativeEnvironment):
            return super()._render(template, context, dag)
        return render_template_to_string(template, context)
