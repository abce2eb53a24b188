// What a dashboard's JSON must be: Grafana's own type of it, in which the names of enums are texts, and
// with the three fields that its types leave to data sources.
import type {
  AnnotationQuery,
  Dashboard,
  VariableModel,
} from "@grafana/schema/dist/esm/raw/dashboard/x/Dashboard_types.gen";

type Plain<T> = T extends string
  ? `${T}`
  : T extends (infer U)[]
    ? Plain<U>[]
    : T extends object
      ? { [K in keyof T]: Plain<T[K]> }
      : T;

type Annotation = Plain<AnnotationQuery> & { expr: string; titleFormat: string; step: string };
type Variable = Plain<VariableModel> & { definition?: string };

export type Board = Omit<Plain<Dashboard>, "annotations" | "templating"> & {
  annotations: { list: Annotation[] };
  templating: { list: Variable[] };
};
