/** Something that the user can put right. */
export class UserError extends Error {}
